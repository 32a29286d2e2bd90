//! The members of a zip archive, by name, and where their bytes lie. Of the format, what PyTorch writes: stored or deflated members, zip64.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    sync::{Arc, atomic::AtomicBool},
};

use super::{entry::Storage, source::Source};

const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";
const MEMBER: [u8; 4] = *b"PK\x01\x02";
const LOCAL: [u8; 4] = *b"PK\x03\x04";

const END_BYTES: u64 = 22;
const END_64_BYTES: u64 = 56;
const LOCATOR_BYTES: u64 = 20;
const MEMBER_BYTES: usize = 46;
const LOCAL_BYTES: u64 = 30;
/// A comment's length is a number of 16 bits.
const COMMENT: u64 = 0xffff;
/// The table of members.
const TABLE: u64 = 64 << 20;
/// How much larger than the file all deflated members may be together, beside [`INFLATED`]; weights hardly shrink.
const INFLATION: u64 = 8;
const INFLATED: u64 = 64 << 20;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const ENCRYPTED: u16 = 1;
/// The field of 64-bit sizes.
const EXTRA_64: u16 = 1;

/// An archive's members.
pub(super) struct Archive {
    source: Arc<Source>,
    members: BTreeMap<String, Member>,
}

struct Member {
    method: u16,
    checksum: u32,
    stored: u64,
    bytes: u64,
    header: u64,
}

fn invalid(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.into())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Archive {
    /// Reads the table at the archive's end.
    pub(super) fn open(source: &Arc<Source>) -> io::Result<Self> {
        let (start, length) = table(source)?;
        if length > TABLE {
            return Err(invalid(format!("its table of members has {length} bytes, at most {TABLE} are read")));
        }
        let table = source.bytes(start, length)?;
        let (mut members, mut rest) = (BTreeMap::new(), table.as_slice());
        while rest.starts_with(&MEMBER) {
            let (name, member, length) = member(rest).ok_or_else(|| invalid("its table of members is damaged"))?;
            members.insert(name, member);
            rest = &rest[length..];
        }
        let inflated =
            members.values().filter(|m| m.method == DEFLATED).fold(0_u64, |sum, m| sum.saturating_add(m.bytes));
        if inflated > source.len().saturating_mul(INFLATION).saturating_add(INFLATED) {
            return Err(invalid(format!("{inflated} bytes are packed into {}", source.len())));
        }
        Ok(Self { source: source.clone(), members })
    }

    /// All names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }

    /// Where the bytes of a member lie.
    pub(super) fn storage(&self, name: &str) -> io::Result<Storage> {
        let member = self.members.get(name).ok_or_else(|| invalid(format!("there is no member {name}")))?;
        if member.method != STORED && member.method != DEFLATED
            || member.method == STORED && member.stored != member.bytes
        {
            return Err(invalid(format!("{name} is packed in another way than stored or deflated")));
        }
        let header = self.source.bytes(member.header, LOCAL_BYTES)?;
        if !header.starts_with(&LOCAL) {
            return Err(invalid(format!("{name} is not where the table of members says")));
        }
        let start = member.header + LOCAL_BYTES + u64::from(u16_at(&header, 26)) + u64::from(u16_at(&header, 28));
        if start.checked_add(member.stored).is_none_or(|end| end > self.source.len()) {
            return Err(invalid(format!("{name} reaches beyond the end of the file")));
        }
        Ok(Storage {
            source: self.source.clone(),
            start,
            stored: member.stored,
            bytes: member.bytes,
            deflated: member.method == DEFLATED,
            // PyTorch can leave checksums out, and writes 0 then.
            checksum: Some(member.checksum).filter(|checksum| *checksum != 0),
            checked: AtomicBool::new(false),
        })
    }

    /// A small member's bytes.
    pub(super) fn read(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let storage = self.storage(name)?;
        if storage.bytes > limit {
            return Err(invalid(format!("{name} has {} bytes, at most {limit} are read", storage.bytes)));
        }
        let mut bytes = Vec::new();
        storage.stream(0..storage.bytes, &mut |piece| bytes.extend_from_slice(piece))?;
        Ok(bytes)
    }
}

/// Where the table of members lies, and its length.
fn table(source: &Source) -> io::Result<(u64, u64)> {
    let tail = source.len().min(END_BYTES + COMMENT);
    let start = source.len() - tail;
    let bytes = source.bytes(start, tail)?;
    let end = bytes.windows(END_BYTES as usize).rposition(|w| w.starts_with(&END));
    let at = end.ok_or_else(|| invalid("it is a zip archive without an end: the file is not whole"))?;
    let end = &bytes[at..];
    let found = (u64::from(u32_at(end, 16)), u64::from(u32_at(end, 12)));
    let Some(locator) = (start + at as u64).checked_sub(LOCATOR_BYTES) else { return Ok(found) };
    let locator = source.bytes(locator, LOCATOR_BYTES)?;
    if !locator.starts_with(&LOCATOR_64) {
        return Ok(found);
    }
    let end = source.bytes(u64_at(&locator, 8), END_64_BYTES)?;
    if !end.starts_with(&END_64) {
        return Err(invalid("the end of the zip archive is damaged"));
    }
    Ok((u64_at(&end, 48), u64_at(&end, 40)))
}

/// The member that a table begins with, and the length of what is said of it.
fn member(table: &[u8]) -> Option<(String, Member, usize)> {
    let head = table.get(..MEMBER_BYTES)?;
    let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(head, at)));
    let length = MEMBER_BYTES + name + extra + comment;
    let rest = table.get(MEMBER_BYTES..length)?;
    let (name, extra) = (String::from_utf8(rest[..name].to_vec()).ok()?, &rest[name..name + extra]);
    if u16_at(head, 8) & ENCRYPTED != 0 {
        return None;
    }
    let [stored, bytes, header] = [20, 24, 42].map(|at| u64::from(u32_at(head, at)));
    let mut member = Member { method: u16_at(head, 10), checksum: u32_at(head, 16), stored, bytes, header };
    large(&mut member, extra)?;
    Some((name, member, length))
}

/// Takes the sizes that do not fit 32 bits from the field for them.
fn large(member: &mut Member, mut extra: &[u8]) -> Option<()> {
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let mut field = extra.get(4..4 + length)?;
        if id == EXTRA_64 {
            let unknown = u64::from(u32::MAX);
            for size in [&mut member.bytes, &mut member.stored, &mut member.header] {
                if *size == unknown {
                    *size = u64_at(field.get(..8)?, 0);
                    field = &field[8..];
                }
            }
        }
        extra = &extra[4 + length..];
    }
    Some(())
}

/// Whether a file begins as an archive does.
pub(super) fn begins(source: &Source) -> io::Result<bool> {
    let mut head = Vec::new();
    source.cursor(0, LOCAL.len() as u64).read_to_end(&mut head)?;
    Ok(head == LOCAL)
}
