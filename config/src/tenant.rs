//! Who data belongs to.

use std::{fmt, sync::Arc};

const LENGTH_MAX: usize = 150;

/// A tenant's name, as the header `X-Scope-OrgID` carries it. Rules as in Grafana's products: 1 to 150 bytes of ASCII
/// letters, digits and `!-_.*'()`, not `.` or `..`, so that it is also safe as one element of a path. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tenant(Arc<str>);

/// Why a text is no tenant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// Nothing between the header's colon and the line's end.
    #[error("tenant is empty; leave the header out for the tenant `{}`", Tenant::DEFAULT)]
    Empty,
    /// More bytes than allowed.
    #[error("tenant has {0} bytes; at most {LENGTH_MAX} are allowed")]
    TooLong(usize),
    /// A character outside the allowed ones.
    #[error("tenant contains {0:?}; allowed are ASCII letters, digits and !-_.*'()")]
    Character(char),
    /// A name that means a folder.
    #[error("tenant `{0}` is reserved; `.` and `..` cannot be used")]
    Reserved(String),
}

impl Tenant {
    /// The tenant of requests that name none.
    pub const DEFAULT: &str = "default";

    /// Checks `name` and takes it as a tenant.
    pub fn parse(name: &str) -> Result<Self, TenantError> {
        if name.is_empty() {
            return Err(TenantError::Empty);
        }
        if name.len() > LENGTH_MAX {
            return Err(TenantError::TooLong(name.len()));
        }
        if let Some(c) = name.chars().find(|c| !c.is_ascii_alphanumeric() && !"!-_.*'()".contains(*c)) {
            return Err(TenantError::Character(c));
        }
        if name == "." || name == ".." {
            return Err(TenantError::Reserved(name.into()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl AsRef<str> for Tenant {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: names at the edges of the rules. Guarantee: accepted unchanged.
    #[test]
    fn good_tenants_are_accepted() {
        for name in ["default", "team-a", "A1!-_.*'()", "...", &"x".repeat(150)] {
            assert_eq!(Tenant::parse(name).unwrap().as_str(), name);
        }
        assert_eq!(Tenant::default().to_string(), "default");
    }

    /// Scenario: path tricks, separators, controls, other scripts, too long. Guarantee: refused with the reason.
    #[test]
    fn bad_tenants_are_refused() {
        assert_eq!(Tenant::parse(""), Err(TenantError::Empty));
        assert_eq!(Tenant::parse(&"x".repeat(151)), Err(TenantError::TooLong(151)));
        for name in [".", ".."] {
            assert_eq!(Tenant::parse(name), Err(TenantError::Reserved(name.into())));
        }
        for (name, c) in [("a/b", '/'), ("a|b", '|'), ("a b", ' '), ("a\n", '\n'), ("größe", 'ö'), ("a\\b", '\\')] {
            assert_eq!(Tenant::parse(name), Err(TenantError::Character(c)));
        }
    }
}
