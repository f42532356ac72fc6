//! Spans that stand to others in a relation, in `O(n log n)` of the spans that are given.

use super::shape::{Place, Shape};
use crate::ast::{Form, Relation};

/// What a structural operator answers. Spans of each side are given once; in the answer, those of the right side keep their order,
/// and those of both sides are by `rank`.
pub(super) fn structural(relation: Relation, form: Form, shape: &Shape, rank: &[u32], left: &[u32], right: &[u32]) -> Vec<u32> {
    let stands = Standing::new(relation, shape, left);
    let mut found: Vec<u32> = right.iter().copied().filter(|span| stands.to_any(*span) != (form == Form::Not)).collect();
    if form == Form::Both {
        let stands = Standing::new(inverse(relation), shape, right);
        found.extend(left.iter().copied().filter(|span| stands.to_any(*span)));
        found.sort_unstable_by_key(|span| rank[*span as usize]);
        found.dedup();
    }
    found
}

/// Those of `all`, in their order, that stand to any of the right side as a span of the left side has to: whether others are on the
/// left side as well changes no answer.
pub(super) fn facing(relation: Relation, shape: &Shape, all: &[u32], right: &[u32]) -> Vec<u32> {
    let stands = Standing::new(inverse(relation), shape, right);
    all.iter().copied().filter(|span| stands.to_any(*span)).collect()
}

fn inverse(relation: Relation) -> Relation {
    match relation {
        Relation::Child => Relation::Parent,
        Relation::Parent => Relation::Child,
        Relation::Descendant => Relation::Ancestor,
        Relation::Ancestor => Relation::Descendant,
        Relation::Sibling => Relation::Sibling,
    }
}

/// Which spans stand in a relation to any of a set.
struct Standing<'s> {
    relation: Relation,
    shape: &'s Shape,
    /// The nested-set numbers of those of the set whose position is known, each column ascending.
    lefts: Vec<i64>,
    rights: Vec<i64>,
    parents: Vec<i64>,
}

impl<'s> Standing<'s> {
    fn new(relation: Relation, shape: &'s Shape, set: &[u32]) -> Standing<'s> {
        let known = || set.iter().map(|span| shape.places[*span as usize]).filter(Place::known);
        let column = |number: fn(Place) -> i64| {
            let mut numbers: Vec<i64> = known().map(number).collect();
            numbers.sort_unstable();
            numbers
        };
        let lefts = column(|place| place.left.into());
        Standing { relation, shape, lefts, rights: column(|place| place.right.into()), parents: column(|place| place.parent) }
    }

    fn to_any(&self, span: u32) -> bool {
        let place = self.shape.places[span as usize];
        let (left, right) = (i64::from(place.left), i64::from(place.right));
        let is_left = |number: i64| self.lefts.binary_search(&number).is_ok();
        place.known()
            && match self.relation {
                Relation::Child => is_left(place.parent),
                Relation::Parent => self.parents.binary_search(&left).is_ok(),
                // More of the set were entered before it than were left.
                Relation::Descendant => below(&self.lefts, left) > below(&self.rights, left),
                // One of the set was entered after it and before it was left.
                Relation::Ancestor => below(&self.lefts, right) > below(&self.lefts, left + 1),
                Relation::Sibling => {
                    let all = below(&self.parents, place.parent + 1) - below(&self.parents, place.parent);
                    all > usize::from(is_left(left))
                }
            }
    }
}

/// How many numbers are less.
fn below(numbers: &[i64], than: i64) -> usize {
    numbers.partition_point(|number| *number < than)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Places of spans that stand below each other as their parents say; one without is a root, and of one that is its own parent the
    /// position is not known.
    fn shape(parents: &[Option<usize>]) -> Shape {
        fn visit(span: usize, parent: i64, parents: &[Option<usize>], next: &mut u32, places: &mut [Place]) {
            let left = *next;
            *next += 1;
            for child in (0..parents.len()).filter(|child| *child != span && parents[*child] == Some(span)) {
                visit(child, left.into(), parents, next, places);
            }
            places[span] = Place { left, right: *next, parent };
            *next += 1;
        }
        let (mut places, mut next) = (vec![Place::default(); parents.len()], 1);
        for root in (0..parents.len()).filter(|span| parents[*span].is_none()) {
            visit(root, -1, parents, &mut next, &mut places);
        }
        Shape { children: vec![0; places.len()], places }
    }

    /// Scenario: every left and right side of a trace with two roots and a span that no root leads to. Guarantee: whether all of the left
    /// side or only what faces the right one is given, each form of each relation answers the same; some of the left side is left out.
    #[test]
    fn only_facing_spans_matter() {
        let shape = shape(&[None, Some(0), Some(0), Some(2), None, Some(4), Some(6)]);
        let rank: Vec<u32> = (0..7).collect();
        let side = |bits: u32| rank.iter().copied().filter(|span| bits >> span & 1 == 1).collect::<Vec<u32>>();
        let mut left_out = 0;
        for (left, right) in (0..128).flat_map(|left| (0..128).map(move |right| (side(left), side(right)))) {
            for relation in [Relation::Child, Relation::Parent, Relation::Descendant, Relation::Ancestor, Relation::Sibling] {
                let facing = facing(relation, &shape, &left, &right);
                left_out += left.len() - facing.len();
                for form in [Form::Right, Form::Not, Form::Both] {
                    let answer = |left: &[u32]| structural(relation, form, &shape, &rank, left, &right);
                    assert_eq!(answer(&facing), answer(&left), "{left:?} {relation:?} {form:?} {right:?}");
                }
            }
        }
        assert!(left_out > 1_000, "{left_out}");
    }
}
