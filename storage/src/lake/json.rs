//! What is kept beside a lake file as JSON: the document, and behind it, in a line of its own, its xxh3 in 16 hexadecimal digits.
//!
//! Of earlier versions there is the document alone, which is read as well.

use arrow::error::ArrowError;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use xxhash_rust::xxh3::xxh3_64;

use super::LakeError;

/// Puts a document.
pub(super) async fn put(store: &dyn ObjectStore, path: &Path, document: &impl Serialize) -> Result<(), LakeError> {
    let mut bytes = serde_json::to_vec(document).map_err(|error| ArrowError::JsonError(error.to_string()))?;
    let checksum = format!("\n{:016x}\n", xxh3_64(&bytes));
    bytes.extend_from_slice(checksum.as_bytes());
    store.put_opts(path, bytes.into(), PutMode::Overwrite.into()).await?;
    Ok(())
}

/// The document in these bytes; none if they are damaged, or it is another one.
pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    // In the document a line's end is written `\n`.
    let document = match bytes.iter().position(|byte| *byte == b'\n') {
        None => bytes,
        Some(end) => {
            let (document, checksum) = bytes.split_at(end);
            (checksum == format!("\n{:016x}\n", xxh3_64(document)).as_bytes()).then_some(document)?
        }
    };
    serde_json::from_slice(document).ok()
}

#[cfg(test)]
mod tests {
    use object_store::ObjectStoreExt;
    use object_store::memory::InMemory;

    use super::*;

    /// Scenario: a document is put, and each of its bits is changed, and it is cut anywhere; one without a checksum. Guarantee: what is
    /// read is what was put, or nothing; without a checksum it is read.
    #[tokio::test]
    async fn damage_is_seen() {
        let (store, path) = (InMemory::new(), Path::from("a"));
        let document = ["one line\nand another".to_owned(), "7".to_owned()];
        put(&store, &path, &document).await.unwrap();
        let bytes = store.get(&path).await.unwrap().bytes().await.unwrap().to_vec();
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
        assert_eq!(parse::<[String; 2]>(&bytes).as_ref(), Some(&document));
        for at in 0..bytes.len() {
            let cut = parse::<[String; 2]>(&bytes[..at]);
            assert_eq!(cut.as_ref(), (at == end).then_some(&document), "{at}");
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(parse::<[String; 2]>(&damaged), None, "{at}");
            }
        }
    }
}
