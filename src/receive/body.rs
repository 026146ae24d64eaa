//! Request bodies into memory, never more of them than the limit and the budget allow.
//!
//! The only place that reads bodies and undoes compression.

use std::io::{self, Read};

use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;
use http_body::Body;
use http_body_util::BodyExt;

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

/// zstd asks decoders for 8 MiB at least; the Go encoder that Collectors use goes up to 32.
const ZSTD_WINDOW_LOG: u32 = 25;

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
}

impl<'a, 'b, B: Body<Data = Bytes> + Unpin> Gather<'a, 'b, B> {
    /// Of `body` at most `limit` bytes are read, under `permit`, which may hold some of them already.
    pub(crate) fn new(body: &'a mut B, limit: usize, permit: &'a mut Permit<'b>) -> Self {
        Self { body, permit, limit, first: Bytes::new(), joined: Vec::new() }
    }

    /// What has been read so far.
    pub(crate) fn read(&self) -> &[u8] {
        if self.joined.is_empty() { &self.first } else { &self.joined }
    }

    /// Takes room for `length` bytes in all, of which the sender has said that they come.
    ///
    /// # Errors
    /// When they are more than the limit or the budget allows.
    pub(crate) fn expect(&mut self, length: usize) -> Result<(), Failure> {
        if length > self.limit {
            return Err(Refused::TooLarge(MAX_REQUEST_SIZE).into());
        }
        Ok(self.permit.cover(length)?)
    }

    /// Reads until there are `length` bytes or the body ends.
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
        let Ok(frame) = frame else { return Err(Failure::cut_off()) };
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
        self.permit.cover(length)?;
        if self.read().is_empty() {
            self.first = data;
            return Ok(());
        }
        if self.joined.capacity() < length {
            // What was announced at once, the rest in steps of half the size while there is room.
            let wanted = self.permit.held().max(length + length / 2).min(self.limit);
            let capacity = if self.permit.cover(wanted).is_ok() { wanted } else { length };
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
        Compression::Gzip => {
            let promised = promised_by_gzip(compressed);
            inflate(MultiGzDecoder::new(compressed), promised, limit, permit)
        }
        Compression::Zstd => {
            let promised = zstd::zstd_safe::get_frame_content_size(compressed).ok().flatten();
            let promised = promised.and_then(|size| usize::try_from(size).ok());
            let decoder = zstd::stream::read::Decoder::with_buffer(compressed).and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Ok(decoder)
            });
            let decoder = decoder.map_err(|_| malformed())?;
            // A small frame can honestly stand for a huge run of one byte; it gets its room as it grows.
            let promised = promised.unwrap_or(0).min(compressed.len().saturating_mul(64));
            inflate(decoder, promised, limit, permit)
        }
    }
}

/// The size in the last member's trailer: right for one member below 4 GiB, a first guess otherwise.
fn promised_by_gzip(compressed: &[u8]) -> usize {
    let Some(size) = compressed.last_chunk::<4>() else { return 0 };
    (u32::from_le_bytes(*size) as usize).min(compressed.len().saturating_mul(GZIP_RATIO))
}

fn malformed() -> Failure {
    Failure::malformed("the body cannot be decompressed")
}

fn inflate(
    mut decoder: impl Read,
    promised: usize,
    limit: usize,
    permit: &mut Permit<'_>,
) -> Result<Vec<u8>, Failure> {
    let before = permit.held();
    let mut out = Vec::new();
    let mut capacity = promised.max(512).min(limit);
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
        // In large steps, and in small ones where large ones have no room.
        let mut covered = Err(Refused::Overload);
        for part in [2, 16, 256] {
            let larger = (capacity + capacity / part + 1).min(limit);
            covered = permit.cover(before.saturating_add(larger)).map(|()| larger);
            if covered.is_ok() {
                break;
            }
        }
        capacity = covered?;
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

    use metrics::Gauge;
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

    #[test]
    fn as_much_as_the_limit_passes_and_one_byte_more_does_not() {
        let budget = Budget::new(1 << 20, Gauge::noop());
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
        let budget = Budget::new(10_100, Gauge::noop());
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

    #[test]
    fn a_gzip_trailer_that_lies_takes_no_room_beyond_what_its_size_could_hold() {
        let budget = Budget::new(1 << 20, Gauge::noop());
        let mut lying = compressed(Compression::Gzip, b"small");
        let size = lying.len() - 4;
        lying[size..].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut permit = budget.permit();
        let result = decompress(Compression::Gzip, &lying, 1 << 20, &mut permit);
        assert_eq!(code(result), Err(Code::InvalidArgument));
        assert!(permit.held() <= lying.len() * GZIP_RATIO);
    }
}
