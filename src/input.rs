//! Files that people hand over: plain, gzip or zstd, which their first bytes tell; `-` is standard input.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What the file holds, decompressed as it is read. Whoever reads it to its end has to bound it.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    if path.as_os_str() == "-" {
        return decompressed(BufReader::new(io::stdin()));
    }
    let file = File::open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    decompressed(BufReader::new(file))
}

fn decompressed(mut file: BufReader<impl Read + 'static>) -> io::Result<Box<dyn BufRead>> {
    let start = file.fill_buf()?;
    Ok(if start.starts_with(&GZIP) {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else if start.starts_with(&ZSTD) {
        Box::new(BufReader::new(zstd::stream::read::Decoder::with_buffer(file)?))
    } else {
        Box::new(file)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(file: Vec<u8>) -> String {
        let mut text = String::new();
        decompressed(BufReader::new(io::Cursor::new(file)))
            .expect("readable")
            .read_to_string(&mut text)
            .expect("text");
        text
    }

    #[test]
    fn the_first_bytes_tell_how_a_file_is_compressed() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut gzip, b"one ").expect("memory");
        let mut twice = gzip.finish().expect("memory");
        twice.extend_from_slice(&twice.clone());
        assert_eq!(text_of(twice), "one one ", "all members of a gzip file are read");
        assert_eq!(text_of(zstd::encode_all(&b"two"[..], 1).expect("memory")), "two");
        assert_eq!(text_of(b"three".to_vec()), "three");
        assert_eq!(text_of(Vec::new()), "");
    }
}
