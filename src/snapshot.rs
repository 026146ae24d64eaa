//! The format of the file in which what was learned survives a restart.
//!
//! ```text
//! "LAGGARD\n"  version: u32  { length: u32, record: postcard }*  0: u32  CRC-32 of all before: u32
//! ```
//!
//! Integers are little-endian. The first record is the [`Header`]. What a record means depends on how names are
//! templated and hashed, so a file is only for the very version of the program that wrote it. A file is taken as a
//! whole or not at all: its checksum is looked at before anything is read out of it.

mod record;

use std::io::{self, Write};

pub(crate) use record::Record;
use serde::{Deserialize, Serialize};

use crate::compare::hash_of;
use crate::otlp::Nanos;

/// How every file begins.
const MAGIC: &[u8; 8] = b"LAGGARD\n";

/// To be raised whenever a record changes its layout.
const VERSION: u32 = 2;

/// Bytes of the magic number and the version, and of a length or a checksum.
const START: usize = MAGIC.len() + WORD;
const WORD: usize = size_of::<u32>();

/// Who wrote a file, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    program: String,
    /// What hashing that text gives on the machine: records are full of hashes.
    hashes: u64,
    /// Nanoseconds since the Unix epoch.
    pub(crate) saved_at: Nanos,
}

/// Why a file is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It does not begin as ours do.
    #[error("must be a file that laggard has written, and is some other file")]
    Foreign,
    /// Its layout is that of another version.
    #[error("must have format {VERSION}, and has format {0}")]
    OtherFormat(u32),
    /// Another version of the program has written it.
    #[error("must be written by laggard {ours}, and was written by {0}", ours = env!("CARGO_PKG_VERSION"))]
    OtherProgram(String),
    /// It ends too early, or something in it has changed.
    #[error("must be whole, and is cut off or damaged")]
    Damaged,
}

impl Unreadable {
    /// Whether the file is somebody else's.
    pub fn is_foreign(&self) -> bool {
        *self == Self::Foreign
    }
}

impl Header {
    fn of_this_program(saved_at: Nanos) -> Self {
        let program = env!("CARGO_PKG_VERSION");
        Self { program: program.to_owned(), hashes: hash_of(program), saved_at }
    }
}

/// Writes a file, record by record.
#[derive(Debug)]
pub(crate) struct Writer<W> {
    out: W,
    checksum: crc32fast::Hasher,
    record: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins a file.
    pub(crate) fn start(out: W, saved_at: Nanos) -> io::Result<Self> {
        let mut writer = Self { out, checksum: crc32fast::Hasher::new(), record: Vec::new() };
        writer.put(MAGIC)?;
        writer.put(&VERSION.to_le_bytes())?;
        writer.record(&Header::of_this_program(saved_at))?;
        Ok(writer)
    }

    /// Writes one record.
    pub(crate) fn record(&mut self, record: &impl Serialize) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.record);
        bytes.clear();
        let bytes = postcard::to_extend(record, bytes).map_err(io::Error::other)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.put(&length.to_le_bytes())?;
        self.put(&bytes)?;
        self.record = bytes;
        Ok(())
    }

    /// Ends the file.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.put(&0_u32.to_le_bytes())?;
        let checksum = self.checksum.clone().finalize();
        self.out.write_all(&checksum.to_le_bytes())?;
        Ok(self.out)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.checksum.update(bytes);
        self.out.write_all(bytes)
    }
}

/// A file that is whole and ours.
#[derive(Debug)]
pub(crate) struct Snapshot<'a> {
    pub(crate) header: Header,
    records: Vec<&'a [u8]>,
}

impl<'a> Snapshot<'a> {
    /// Takes a whole file. Every record of it can be read then.
    pub(crate) fn open(file: &'a [u8]) -> Result<Self, Unreadable> {
        let magic = file.get(..MAGIC.len().min(file.len())).unwrap_or_default();
        if !MAGIC.starts_with(magic) {
            return Err(Unreadable::Foreign);
        }
        match word(file, MAGIC.len()) {
            Some(VERSION) => {}
            Some(other) => return Err(Unreadable::OtherFormat(other)),
            None => return Err(Unreadable::Damaged),
        }
        let end = file.len().checked_sub(WORD).filter(|end| *end >= START).ok_or(Unreadable::Damaged)?;
        let checked = file.get(..end).unwrap_or_default();
        if word(file, end) != Some(crc32fast::hash(checked)) {
            return Err(Unreadable::Damaged);
        }
        let mut records =
            split(checked.get(START..).unwrap_or_default()).ok_or(Unreadable::Damaged)?.into_iter();
        let header = records.next().ok_or(Unreadable::Damaged)?;
        let header: Header = postcard::from_bytes(header).map_err(|_| Unreadable::Damaged)?;
        let ours = Header::of_this_program(header.saved_at);
        if header != ours {
            return Err(Unreadable::OtherProgram(header.program));
        }
        let records: Vec<&[u8]> = records.collect();
        if records.iter().any(|record| postcard::from_bytes::<Record<'_>>(record).is_err()) {
            return Err(Unreadable::Damaged);
        }
        Ok(Self { header, records })
    }

    /// Its records, in the order in which they were written.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'a>> {
        self.records.iter().filter_map(|record| postcard::from_bytes(record).ok())
    }
}

/// The records up to the one of length 0, which ends the file; `None` where a length leads elsewhere.
fn split(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut records = Vec::new();
    loop {
        let length = word(bytes, 0)? as usize;
        bytes = bytes.get(WORD..)?;
        if length == 0 {
            return bytes.is_empty().then_some(records);
        }
        records.push(bytes.get(..length)?);
        bytes = bytes.get(length..)?;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests;
