//! Request bodies into memory, never more of them than the limit and the budget allow.
//!
//! The only place that reads bodies and undoes compression.

use std::error::Error;
use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http_body::Body;
use http_body_util::BodyExt;
use zstd::zstd_safe::{self, DCtx};

use super::Refused;
use super::budget::Permit;
use super::status::Failure;

/// A compression of request bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    /// RFC 1952, in one or more members.
    Gzip,
    /// RFC 8878, in one or more frames.
    Zstd,
}

impl Compression {
    /// By its name in `Content-Encoding` and `grpc-encoding`: `Ok(None)` for none, `Err` for one that is not read.
    pub(crate) fn by_name(name: &[u8]) -> Result<Option<Self>, ()> {
        match name.trim_ascii() {
            b"" => Ok(None),
            name if name.eq_ignore_ascii_case(b"identity") => Ok(None),
            name if name.eq_ignore_ascii_case(b"gzip") => Ok(Some(Self::Gzip)),
            name if name.eq_ignore_ascii_case(b"zstd") => Ok(Some(Self::Zstd)),
            _ => Err(()),
        }
    }
}

/// What limits a request by itself.
pub(crate) const MAX_REQUEST_SIZE: &str = "receive.max_request_size";

/// The names of all compressions that [`Compression::by_name`] knows.
pub(crate) const COMPRESSIONS: &str = "identity,gzip,zstd";

/// What is made of zstd has so many times the size of it, as a first guess where it does not say.
const ZSTD_RATIO: usize = 8;

/// No room smaller than this is tried.
const SMALLEST: usize = 512;

/// Deflate cannot make more out of a byte than this, so a larger promise is a lie.
const GZIP_RATIO: usize = 1032;

/// Reads one body.
pub(crate) struct Gather<'a, 'b, B> {
    body: &'a mut B,
    permit: &'a mut Permit<'b>,
    limit: usize,
    /// The first frame, until there is a second. Many requests have no other, and it is not copied then.
    first: Bytes,
    /// Everything, once there is a second frame.
    joined: Vec<u8>,
    /// Whether what comes takes room in the budget.
    is_announced: bool,
}

impl<'a, 'b, B: Body<Data = Bytes, Error: Error + 'static> + Unpin> Gather<'a, 'b, B> {
    /// Of `body` at most `limit` bytes are read, under `permit`, which has a place in the lobby for those that announce the
    /// others, or no such place and all of them take room as they come.
    pub(crate) fn new(body: &'a mut B, limit: usize, permit: &'a mut Permit<'b>) -> Self {
        let is_announced = !permit.sits();
        Self { body, permit, limit, first: Bytes::new(), joined: Vec::new(), is_announced }
    }

    /// What has been read so far.
    pub(crate) fn read(&self) -> &[u8] {
        if self.joined.is_empty() { &self.first } else { &self.joined }
    }

    /// Takes room for `length` bytes in all, of which the sender has said that they come; waits for it for `patience`.
    ///
    /// # Errors
    /// When they are more than the limit or the budget allows.
    pub(crate) async fn expect(&mut self, length: usize, patience: Duration) -> Result<(), Failure> {
        if length > self.limit {
            return Err(Refused::TooLarge(MAX_REQUEST_SIZE).into());
        }
        self.is_announced = true;
        // What has come beyond is refused later, but it is there.
        Ok(self.permit.announce(length.max(self.read().len()), patience).await?)
    }

    /// Reads until there are `length` bytes, which announce the others, or the body ends. The permit has a place in the
    /// lobby for them.
    pub(crate) async fn until(&mut self, length: usize) -> Result<(), Failure> {
        while self.read().len() < length && self.frame().await? {}
        Ok(())
    }

    /// Reads to the end, which must be at `length` bytes.
    pub(crate) async fn exactly(mut self, length: usize) -> Result<Bytes, Failure> {
        while self.read().len() <= length && self.frame().await? {}
        match self.read().len() {
            read if read < length => Err(Failure::misframed("the message is shorter than its prefix says")),
            read if read > length => Err(Failure::misframed("the request has more than one message")),
            _ => self.all().await,
        }
    }

    /// Reads the rest and returns everything.
    pub(crate) async fn all(mut self) -> Result<Bytes, Failure> {
        while self.frame().await? {}
        Ok(if self.joined.is_empty() { self.first } else { self.joined.into() })
    }

    /// Reads one frame; `false` at the end.
    async fn frame(&mut self) -> Result<bool, Failure> {
        let Some(frame) = self.body.frame().await else { return Ok(false) };
        let frame = frame.map_err(|error| {
            if is_garbled(&error) {
                Failure::malformed("the body is not in valid chunks")
            } else {
                Failure::cut_off()
            }
        })?;
        // Trailers say nothing to us.
        if let Ok(data) = frame.into_data() {
            self.push(data)?;
        }
        Ok(true)
    }

    fn push(&mut self, data: Bytes) -> Result<(), Failure> {
        let length = self.read().len() + data.len();
        if length > self.limit {
            return Err(Refused::TooLarge(MAX_REQUEST_SIZE).into());
        }
        if self.is_announced {
            self.permit.cover(length)?;
        }
        if self.read().is_empty() {
            self.first = data;
            return Ok(());
        }
        if self.joined.capacity() < length {
            // What was announced at once, the rest in steps of half the size while there is room.
            let wanted = self.permit.held().max(length + length / 2).min(self.limit);
            let has_room = self.is_announced && self.permit.cover(wanted).is_ok();
            let capacity = if has_room { wanted } else { length };
            self.joined.reserve_exact(capacity - self.joined.len());
        }
        if self.joined.is_empty() {
            // Let go at once: it keeps the whole buffer of its connection, and the next read would need another.
            self.joined.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.joined.extend_from_slice(&data);
        Ok(())
    }
}

/// Whether what came of a body is wrong, and not just short: hyper has that as an error of what it read.
fn is_garbled(error: &(dyn Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |&cause| cause.source());
    let read = causes.find_map(|cause| cause.downcast_ref::<io::Error>());
    read.is_some_and(|read| matches!(read.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData))
}

/// Undoes `compression`; of the result at most `limit` bytes are made, under `permit` on top of what it holds.
///
/// # Errors
/// When it is malformed (truncated, a wrong checksum, anything behind its end), or more than is allowed.
pub(crate) fn decompress(
    compression: Compression,
    compressed: &[u8],
    limit: usize,
    permit: &mut Permit<'_>,
) -> Result<Vec<u8>, Failure> {
    match compression {
        Compression::Gzip => inflate(compressed, limit, permit),
        Compression::Zstd => unpack(compressed, limit, permit),
    }
}

/// zstd, in one piece: a decoder that makes its output bit by bit needs a window beside it, of up to 32 MiB as Collectors
/// send it, while the output as a whole is a window too. Where it turns out larger than the room, it is made again.
fn unpack(compressed: &[u8], limit: usize, permit: &mut Permit<'_>) -> Result<Vec<u8>, Failure> {
    if compressed.is_empty() {
        return Err(malformed());
    }
    let before = permit.held();
    let promised = zstd_safe::get_frame_content_size(compressed).ok().flatten();
    let promised = promised.and_then(|size| usize::try_from(size).ok());
    // A small frame can honestly stand for a huge run of one byte; it gets its room as it grows.
    let guess = promised.unwrap_or(compressed.len().saturating_mul(ZSTD_RATIO));
    let least = compressed.len().max(SMALLEST);
    let mut capacity = guess.min(compressed.len().saturating_mul(64)).max(SMALLEST).min(limit);
    while let Err(refused) = permit.cover(before.saturating_add(capacity)) {
        if capacity <= least {
            return Err(refused.into());
        }
        capacity = (capacity / 2).max(least);
    }
    let mut decoder = DCtx::try_create().ok_or_else(malformed)?;
    loop {
        let mut out = Vec::with_capacity(capacity);
        match decoder.decompress(&mut out, compressed) {
            Ok(_) => {
                permit.release(permit.held().saturating_sub(before.saturating_add(out.len())));
                return Ok(out);
            }
            Err(code) if zstd_safe::get_error_name(code) != TOO_SMALL => return Err(malformed()),
            Err(_) if capacity >= limit => return Err(Refused::TooLarge(MAX_REQUEST_SIZE).into()),
            Err(_) => capacity = grown(capacity, limit, before, permit)?,
        }
    }
}

/// What zstd says of an output that has no room.
const TOO_SMALL: &str = "Destination buffer is too small";

/// Takes room for more than `capacity`: a large step, and a small one where large ones have no room.
fn grown(capacity: usize, limit: usize, before: usize, permit: &mut Permit<'_>) -> Result<usize, Refused> {
    let mut covered = Err(Refused::Overload);
    for part in [2, 16, 256] {
        let larger = (capacity + capacity / part + 1).min(limit);
        covered = permit.cover(before.saturating_add(larger)).map(|()| larger);
        if covered.is_ok() {
            break;
        }
    }
    covered
}

/// The size in the last member's trailer: right for one member below 4 GiB, a first guess otherwise.
fn promised_by_gzip(compressed: &[u8]) -> usize {
    let Some(size) = compressed.last_chunk::<4>() else { return 0 };
    (u32::from_le_bytes(*size) as usize).min(compressed.len().saturating_mul(GZIP_RATIO))
}

fn malformed() -> Failure {
    Failure::malformed("the body cannot be decompressed")
}

/// gzip, bit by bit: its window is small.
fn inflate(compressed: &[u8], limit: usize, permit: &mut Permit<'_>) -> Result<Vec<u8>, Failure> {
    let before = permit.held();
    let mut decoder = MultiGzDecoder::new(compressed);
    let mut out = Vec::new();
    let mut capacity = promised_by_gzip(compressed).max(SMALLEST).min(limit);
    loop {
        permit.cover(before.saturating_add(capacity))?;
        out.reserve_exact(capacity - out.len());
        let room = (capacity - out.len()) as u64;
        let read = decoder.by_ref().take(room).read_to_end(&mut out).map_err(|_| malformed())?;
        // Whether it is full or at its end shows only the next byte.
        if (read as u64) < room {
            return Ok(out);
        }
        let Some(next) = next_byte(&mut decoder)? else { return Ok(out) };
        if out.len() >= limit {
            return Err(Refused::TooLarge(MAX_REQUEST_SIZE).into());
        }
        capacity = grown(capacity, limit, before, permit)?;
        out.reserve_exact(capacity - out.len());
        out.push(next);
    }
}

fn next_byte(decoder: &mut impl Read) -> Result<Option<u8>, Failure> {
    let mut byte = [0];
    loop {
        match decoder.read(&mut byte) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(byte.first().copied()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(malformed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use metrics::{Counter, Gauge};
    use tonic::Code;

    use super::super::budget::Budget;
    use super::*;

    fn compressed(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).expect("in memory");
                encoder.finish().expect("in memory")
            }
            Compression::Zstd => zstd::stream::encode_all(bytes, 1).expect("in memory"),
        }
    }

    fn code(result: Result<Vec<u8>, Failure>) -> Result<usize, Code> {
        result.map(|bytes| bytes.len()).map_err(|failure| failure.status.code())
    }

    // LIB-2.
    #[test]
    fn as_much_as_the_limit_passes_and_one_byte_more_does_not() {
        let budget = Budget::new(1 << 20, Gauge::noop(), Counter::noop());
        for compression in [Compression::Gzip, Compression::Zstd] {
            for size in [0, 1, 511, 512, 513, 10_000] {
                let whole = compressed(compression, &vec![7; size]);
                let mut permit = budget.permit();
                assert_eq!(code(decompress(compression, &whole, size.max(1), &mut permit)), Ok(size));
                assert!(permit.held() <= size.max(512), "{compression:?} {size}: {}", permit.held());
                if size > 1 {
                    let less = decompress(compression, &whole, size - 1, &mut budget.permit());
                    assert_eq!(code(less), Err(Code::ResourceExhausted), "{compression:?} {size}");
                }
            }
        }
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_made_counts_on_top_of_what_is_held() {
        let budget = Budget::new(10_100, Gauge::noop(), Counter::noop());
        for compression in [Compression::Gzip, Compression::Zstd] {
            let whole = compressed(compression, &[7; 6_000]);
            let mut permit = budget.permit();
            permit.cover(4_000).expect("fits");
            assert_eq!(code(decompress(compression, &whole, 8_000, &mut permit)), Ok(6_000));
            drop(permit);
            let mut permit = budget.permit();
            permit.cover(5_000).expect("fits");
            let never = decompress(compression, &whole, 8_000, &mut permit);
            assert_eq!(code(never), Err(Code::ResourceExhausted), "it could never fit");
            drop(permit);
            let mut other = budget.permit();
            other.cover(5_000).expect("fits");
            let now = decompress(compression, &whole, 8_000, &mut budget.permit());
            assert_eq!(code(now), Err(Code::Unavailable), "it would fit later");
        }
    }

    /// Without its size, as senders write who compress while they encode.
    fn streamed(bytes: &[u8], window_log: u32) -> Vec<u8> {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("in memory");
        encoder.window_log(window_log).expect("valid");
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    #[test]
    fn zstd_of_unknown_size_and_with_the_largest_window_takes_no_room_beside_its_output() {
        let bytes: Vec<u8> = (0..40_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let whole = streamed(&bytes, 25);
        assert!(zstd_safe::get_frame_content_size(&whole).is_ok_and(|size| size.is_none()));
        let budget = Budget::new((bytes.len() + 3_000) as u64, Gauge::noop(), Counter::noop());
        let mut permit = budget.permit();
        let out = decompress(Compression::Zstd, &whole, bytes.len(), &mut permit);
        assert!(out.is_ok_and(|out| out == bytes));
        assert_eq!(permit.held(), bytes.len());
        drop(permit);
        let more = decompress(Compression::Zstd, &whole, bytes.len() - 1, &mut budget.permit());
        assert_eq!(code(more), Err(Code::ResourceExhausted));
        let two = [whole.clone(), streamed(b"and more", 20)].concat();
        let two = decompress(Compression::Zstd, &two, 1 << 20, &mut budget.permit());
        assert_eq!(code(two), Ok(bytes.len() + 8), "frames follow each other");
        for broken in [&whole[..whole.len() - 1], &[&whole[..], b"garbage"].concat()] {
            let broken = decompress(Compression::Zstd, broken, 1 << 20, &mut budget.permit());
            assert_eq!(code(broken), Err(Code::InvalidArgument));
        }
    }

    #[test]
    fn a_gzip_trailer_that_lies_takes_no_room_beyond_what_its_size_could_hold() {
        let budget = Budget::new(1 << 20, Gauge::noop(), Counter::noop());
        let mut lying = compressed(Compression::Gzip, b"small");
        let size = lying.len() - 4;
        lying[size..].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut permit = budget.permit();
        let result = decompress(Compression::Gzip, &lying, 1 << 20, &mut permit);
        assert_eq!(code(result), Err(Code::InvalidArgument));
        assert!(permit.held() <= lying.len() * GZIP_RATIO);
    }
}
