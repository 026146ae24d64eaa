//! What leaves in fewer bytes: the one message of a gRPC request, the body of an HTTP one.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::GzEncoder;

use crate::config::Compression;

/// `content` as it travels, and the name of its encoding in either protocol; as it is where `compression` asks for
/// nothing else, or where the compressor finds no memory.
pub(super) fn compressed(content: Bytes, compression: Compression) -> (Option<&'static str>, Bytes) {
    let (compressed, encoding) = match compression {
        Compression::None | Compression::Auto => return (None, content),
        Compression::Gzip => (gzip(&content), "gzip"),
        Compression::Zstd => (zstd::bulk::compress(&content, zstd::DEFAULT_COMPRESSION_LEVEL), "zstd"),
    };
    match compressed {
        Ok(mut compressed) => {
            // What the buffer has grown beyond its content would be held, but not counted.
            compressed.shrink_to_fit();
            (Some(encoding), Bytes::from(compressed))
        }
        Err(_) => (None, content),
    }
}

fn gzip(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn content_is_compressed_as_configured() {
        let content = Bytes::from(vec![b'x'; 10_000]);
        let (name, same) = compressed(content.clone(), Compression::None);
        assert_eq!((name, same.as_ptr()), (None, content.as_ptr()), "no copy");
        let (name, gzip) = compressed(content.clone(), Compression::Gzip);
        let mut plain = Vec::new();
        flate2::bufread::MultiGzDecoder::new(&gzip[..]).read_to_end(&mut plain).expect("gzip");
        assert_eq!((name, &plain[..], gzip.len() < 200), (Some("gzip"), &content[..], true));
        let (name, zstd) = compressed(content.clone(), Compression::Zstd);
        let plain = zstd::bulk::decompress(&zstd, 10_000).expect("zstd");
        assert_eq!((name, &plain[..], zstd.len() < 200), (Some("zstd"), &content[..], true));
    }
}
