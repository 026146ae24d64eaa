//! A file of recorded requests: OTLP/JSON, one a line.

use std::fmt::Display;
use std::io::{self, BufRead, Read as _};
use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::input;

/// A recording, read line by line.
pub(super) struct Recording {
    path: PathBuf,
    text: Box<dyn BufRead>,
    /// Bytes; a longer line is an error, not a reason to run out of memory.
    max_line: u64,
    line: Vec<u8>,
    number: u64,
    is_over: bool,
}

impl Recording {
    pub(super) fn open(path: &Path, max_line: u64) -> Result<Self, Failure> {
        let text = input::open(path).map_err(|error| unreadable(path, &error))?;
        Ok(Self { path: path.to_owned(), text, max_line, line: Vec::new(), number: 0, is_over: false })
    }

    /// Reads on to the next line that is not blank; false at the end.
    ///
    /// # Errors
    /// What is wrong with a line. Where the file cannot be read any further, it ends there.
    pub(super) fn read_on(&mut self) -> Result<bool, String> {
        while !self.is_over {
            self.line.clear();
            self.number += 1;
            let mut line = (&mut *self.text).take(self.max_line.saturating_add(1));
            match line.read_until(b'\n', &mut self.line) {
                Err(error) => {
                    self.is_over = true;
                    return Err(self.wrong(&format!("{error}; nothing behind it can be read")));
                }
                Ok(0) => self.is_over = true,
                Ok(length) if length as u64 > self.max_line => {
                    self.line.clear();
                    let skipped = self.text.skip_until(b'\n');
                    self.is_over = skipped.is_err();
                    return Err(
                        self.wrong(&format!("longer than receive.max_request_size, {} bytes", self.max_line))
                    );
                }
                Ok(_) if self.line.trim_ascii().is_empty() => {}
                Ok(_) => return Ok(true),
            }
        }
        Ok(false)
    }

    /// The line read last, without its end.
    pub(super) fn line(&self) -> &[u8] {
        self.line.trim_ascii_end()
    }

    /// What is wrong with a file whose first line only opens what stands in many lines; no more of it is read.
    pub(super) fn spread_out(&mut self) -> Option<String> {
        let is_opened = self.number == 1 && matches!(self.line.trim_ascii(), b"{" | b"[" | b"[{");
        self.is_over |= is_opened;
        is_opened.then(|| {
            let path = self.path.display();
            format!("{path}: its JSON stands in many lines; a recording has one request a line, and laggard compare reads single traces")
        })
    }

    /// What is wrong with the line read last.
    pub(super) fn wrong(&self, problem: &dyn Display) -> String {
        let place = format!("{} line {}", self.path.display(), self.number);
        // Whatever writes recordings ends each line, unless it was stopped in the middle of one.
        let is_cut = !self.line.is_empty() && !self.line.ends_with(b"\n");
        let cut = if is_cut { "; it is the last one and may have been cut off" } else { "" };
        format!("{place}: {problem}{cut}")
    }
}

/// Nothing is replayed while one of the files is not there. What is wrong with its content is found by reading it.
pub(super) fn must_exist(path: &Path) -> Result<(), Failure> {
    if path.as_os_str() == "-" {
        return Ok(());
    }
    match path.metadata() {
        Ok(about) if about.is_dir() => Err(unreadable(path, &io::ErrorKind::IsADirectory.into())),
        Ok(_) => Ok(()),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::Input(format!("{} cannot be read: {error}", path.display()))
}
