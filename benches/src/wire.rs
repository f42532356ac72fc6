//! Just enough of the protobuf wire format to find where fields stand in an encoded message.

use std::ops::Range;

use anyhow::{Context, bail};

/// A field of a message: its number, and where its content (without tag and length) stands.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) number: u64,
    pub(crate) content: Range<usize>,
}

/// The fields of the message at `message` of `bytes`, in order.
pub(crate) fn fields(bytes: &[u8], message: Range<usize>) -> anyhow::Result<Vec<Field>> {
    let mut fields = Vec::new();
    let mut at = message.start;
    while at < message.end {
        let tag = varint(bytes, &mut at)?;
        let length = match tag & 7 {
            0 => {
                let mut end = at;
                varint(bytes, &mut end)?;
                end - at
            }
            1 => 8,
            2 => usize::try_from(varint(bytes, &mut at)?)?,
            5 => 4,
            kind => bail!("cannot read protobuf at byte {at}: wire type {kind}"),
        };
        let end = at.checked_add(length).filter(|end| *end <= message.end).context("a protobuf field ends outside its message")?;
        fields.push(Field { number: tag >> 3, content: at..end });
        at = end;
    }
    Ok(fields)
}

/// The contents of the fields of that number.
pub(crate) fn contents(bytes: &[u8], message: Range<usize>, number: u64) -> anyhow::Result<Vec<Range<usize>>> {
    Ok(fields(bytes, message)?.into_iter().filter(|field| field.number == number).map(|field| field.content).collect())
}

fn varint(bytes: &[u8], at: &mut usize) -> anyhow::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).context("a protobuf varint is cut off")?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("cannot read protobuf at byte {at}: a varint has more than 10 bytes")
}
