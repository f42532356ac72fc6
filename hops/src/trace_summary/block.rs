//! Traces whose ids are next to each other.

use super::mark;
use crate::rollup::FormatError;
use crate::rollup::format::Reader;
use crate::varint;

const MARK: usize = size_of::<u32>();

/// What a block says of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<'o> {
    /// The file does not have it.
    Absent,
    /// The file may have it.
    Untold,
    /// The file has it, or it has a trace that looks like it.
    Trace(StoredTrace<'o>),
}

/// A trace in a few numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredTrace<'o> {
    /// First start, nanoseconds since the epoch.
    pub start: i64,
    /// From the first start to the last end, nanoseconds.
    pub duration: i64,
    /// Spans.
    pub spans: u64,
    /// Spans with an error.
    pub errors: u64,
    /// Whether two of its spans have one id.
    pub has_copies: bool,
    /// Of the span without parent that starts first, if there is one: its service, if it has one, and its name.
    pub root: Option<(Option<&'o str>, &'o str)>,
    /// Its services, in no particular order. Spans without one are in none.
    pub services: Vec<ServiceCounts<'o>>,
}

/// The part of a service in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceCounts<'o> {
    /// The service.
    pub service: &'o str,
    /// Its spans.
    pub spans: u64,
    /// Those with an error.
    pub errors: u64,
}

/// A trace that is to be told of. Texts by number.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub id: [u8; 16],
    pub start: i64,
    pub duration: i64,
    /// 0 if it is not told of.
    pub spans: u64,
    pub errors: u64,
    pub has_copies: bool,
    /// Service and name.
    pub root: Option<(Option<u32>, u32)>,
    /// With spans and errors.
    pub services: Vec<(u32, u64, u64)>,
}

/// The block of some traces.
pub(super) fn write(rows: &mut [Row]) -> Vec<u8> {
    leave_out_alike(rows);
    let mut bytes = Vec::new();
    varint::write(&mut bytes, rows.len() as u128);
    rows.iter().for_each(|row| bytes.extend_from_slice(&mark(&row.id).to_le_bytes()));
    let least = rows.iter().filter(|row| row.spans > 0).map(|row| row.start).min().unwrap_or(0);
    varint::write(&mut bytes, varint::zigzag(least.into()));
    let mut column = |value: &dyn Fn(&Row) -> u64| rows.iter().for_each(|row| varint::write(&mut bytes, value(row).into()));
    column(&|row| row.spans * 2 + u64::from(row.has_copies));
    column(&|row| if row.spans > 0 { row.start.abs_diff(least) } else { 0 });
    column(&|row| row.duration.unsigned_abs());
    column(&|row| row.errors);
    column(&|row| row.root.map_or(0, |(_, name)| u64::from(name) + 1));
    column(&|row| row.root.and_then(|(service, _)| service).map_or(0, |service| u64::from(service) + 1));
    for row in rows {
        varint::write(&mut bytes, row.services.len() as u128);
        for (service, spans, errors) in &row.services {
            varint::write(&mut bytes, (*service).into());
            varint::write(&mut bytes, (spans * 2 + u64::from(*errors > 0)).into());
            if *errors > 0 {
                varint::write(&mut bytes, (*errors).into());
            }
        }
    }
    bytes
}

/// Traces of which a mark does not say which of them it is are not told of.
fn leave_out_alike(rows: &mut [Row]) {
    let mut marks: Vec<u32> = rows.iter().map(|row| mark(&row.id)).collect();
    marks.sort_unstable();
    let alike: Vec<u32> = marks.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    for row in rows.iter_mut().filter(|row| alike.contains(&mark(&row.id))) {
        *row = Row { id: row.id, ..Row::default() };
    }
}

/// What a block says of a trace. `text` gives the text with a number, if there is one.
pub(super) fn find<'o>(
    block: &[u8],
    id: &[u8; 16],
    text: impl Fn(u64) -> Result<&'o str, FormatError>,
) -> Result<Told<'o>, FormatError> {
    if block.is_empty() {
        return Ok(Told::Untold);
    }
    let mut reader = Reader::new(block);
    let count = reader.length()?;
    let marks = reader.slice(count * MARK as u64)?.as_chunks::<MARK>().0;
    let wanted = mark(id).to_le_bytes();
    let Some(place) = marks.iter().position(|mark| *mark == wanted) else { return Ok(Told::Absent) };
    let least = reader.signed().ok_or(FormatError)?;
    let mut column = || at(&mut reader, marks.len(), place);
    let (spans, start, duration, errors) = (column()?, column()?, column()?, column()?);
    let (root_name, root_service) = (column()?, column()?);
    if spans == 0 {
        return Ok(Told::Untold);
    }
    let optional = |number: u64| number.checked_sub(1).map(&text).transpose();
    let root_service = optional(root_service)?;
    Ok(Told::Trace(StoredTrace {
        start: least.checked_add_unsigned(start).ok_or(FormatError)?,
        duration: duration.try_into().map_err(|_| FormatError)?,
        spans: spans / 2,
        errors,
        has_copies: spans % 2 == 1,
        root: optional(root_name)?.map(|name| (root_service, name)),
        services: services(&mut reader, place, text)?,
    }))
}

/// The number of a column at a place; the reader is behind the column then.
fn at(reader: &mut Reader<'_>, count: usize, place: usize) -> Result<u64, FormatError> {
    let mut value = 0;
    for number in 0..count {
        let read = reader.small().ok_or(FormatError)?;
        if number == place {
            value = read;
        }
    }
    Ok(value)
}

/// The services of the trace at a place.
fn services<'o>(
    reader: &mut Reader<'_>,
    place: usize,
    text: impl Fn(u64) -> Result<&'o str, FormatError>,
) -> Result<Vec<ServiceCounts<'o>>, FormatError> {
    for _ in 0..place {
        for _ in 0..reader.length()? {
            service(reader)?;
        }
    }
    let mut services = Vec::new();
    for _ in 0..reader.length()? {
        let (number, spans, errors) = service(reader)?;
        services.push(ServiceCounts { service: text(number)?, spans, errors });
    }
    Ok(services)
}

/// A service's number, its spans, and those with an error.
fn service(reader: &mut Reader<'_>) -> Result<(u64, u64, u64), FormatError> {
    let (number, spans) = (reader.small().ok_or(FormatError)?, reader.small().ok_or(FormatError)?);
    let errors = if spans % 2 == 1 { reader.small().ok_or(FormatError)? } else { 0 };
    Ok((number, spans / 2, errors))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// Scenario: a block with two traces of one mark, and others. Guarantee: of the two nothing is told, of the others all, and an
    /// empty block tells of none.
    #[test]
    fn traces_alike_are_not_told_of() {
        let mut known = HashMap::new();
        let ids = (1u128..).map(|number| number.wrapping_mul(0x1234_5678_9abc_def1_0fed_cba9_8765_4321).to_be_bytes());
        let [one, other] = ids.into_iter().find_map(|id| known.insert(mark(&id), id).map(|first| [first, id])).unwrap();
        let row = |id, spans| Row { id, spans, start: 7, ..Row::default() };
        let block = write(&mut [row([0; 16], 1), row(one, 2), row(other, 3), row([9; 16], 4)]);
        let find = |block: &[u8], id| find(block, &id, |_| Err(FormatError)).unwrap();
        assert_eq!([find(&block, one), find(&block, other), find(&block, [8; 16])], [Told::Untold, Told::Untold, Told::Absent]);
        for (id, expected) in [([0; 16], 1), ([9; 16], 4)] {
            let Told::Trace(StoredTrace { start: 7, spans, .. }) = find(&block, id) else { panic!("{id:?}") };
            assert_eq!(spans, expected);
        }
        assert_eq!(find(&[], one), Told::Untold);
    }
}
