//! A file that is written past the page cache.

use std::fs::File;
use std::io::{self, IoSlice, Write};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::disk::DiskFile;

/// What the kernel wants the place of a write to be a multiple of, in memory and in the file: no disk has larger sectors.
const ALIGNMENT: usize = 4_096;
/// Bytes that are written with one system call.
const CHUNK: usize = 1 << 20;

/// Appends go from a buffer of its own to the disk (`O_DIRECT`), while they are whole blocks of 4,096 bytes and the file system takes
/// them; else through the page cache.
#[derive(Debug)]
pub(crate) struct DirectFile {
    file: File,
    memory: Box<[u8]>,
    direct: bool,
}

impl DirectFile {
    /// Of an empty file that is open for writing.
    pub(crate) fn new(file: File) -> DirectFile {
        let direct = set_direct(&file, true).is_ok();
        DirectFile { file, memory: vec![0; CHUNK + ALIGNMENT].into_boxed_slice(), direct }
    }

    /// Writes the first `len` bytes of the buffer that begins at `begin` of the memory.
    fn write(&mut self, begin: usize, len: usize) -> io::Result<()> {
        let mut left = &self.memory[begin..begin + len];
        while !left.is_empty() {
            match self.file.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Some file systems tell only now.
                Err(error) if self.direct && matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
                    set_direct(&self.file, false)?;
                    self.direct = false;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn set_direct(file: &File, direct: bool) -> io::Result<()> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, direct);
    Ok(fcntl_setfl(file, flags)?)
}

impl DiskFile for DirectFile {
    fn append(&mut self, slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        // Never out of bounds: the memory has as many bytes more.
        let begin = self.memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        let mut len = 0;
        for slice in slices.iter() {
            let mut bytes: &[u8] = slice;
            while !bytes.is_empty() {
                let (part, rest) = bytes.split_at(bytes.len().min(CHUNK - len));
                self.memory[begin + len..][..part.len()].copy_from_slice(part);
                (len, bytes) = (len + part.len(), rest);
                if len == CHUNK {
                    self.write(begin, len)?;
                    len = 0;
                }
            }
        }
        self.write(begin, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scenario: appends of whole blocks, one of them larger than the buffer, then one that is no whole block, and one more. Guarantee: the
    /// file holds all bytes in order, whether they went past the page cache or not.
    #[test]
    fn bytes_are_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut file = DirectFile::new(File::create_new(&path).unwrap());
        let bytes: Vec<u8> = (0..5 * CHUNK + 77).map(|at| (at % 251) as u8).collect();
        let mut at = 0;
        for len in [ALIGNMENT, 3 * CHUNK + 2 * ALIGNMENT, ALIGNMENT, 4_000, CHUNK] {
            let (first, second) = bytes[at..at + len].split_at(len / 3);
            file.append(&mut [IoSlice::new(first), IoSlice::new(&[]), IoSlice::new(second)]).unwrap();
            file.sync().unwrap();
            at += len;
            assert!(std::fs::read(&path).unwrap() == bytes[..at], "after {at} bytes");
        }
    }
}
