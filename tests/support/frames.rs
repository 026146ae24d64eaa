//! HTTP/2 frame by frame (RFC 9113), for what no library lets a test do.

// Tests of both edges include this file, and neither uses all of it.
#![allow(dead_code, clippy::panic, reason = "each suite uses a part of it; a test that fails says why")]

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const ACK: u8 = 1;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A frame as it travels.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields, none of them compressed.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a length of one byte");
            block.push(u8::try_from(text.len()).expect("short"));
            block.extend(text.as_bytes());
        }
    }
    block
}

/// A connection.
pub(crate) struct Frames {
    stream: TcpStream,
}

impl Frames {
    /// Connects, and states `settings`.
    pub(crate) async fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut frames = Self { stream: TcpStream::connect(address).await.expect("a connection") };
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        frames.send(&[PREFACE, &frame(SETTINGS, 0, 0, &payload)].concat()).await;
        frames
    }

    /// The other end of a connection that a client has made.
    pub(crate) async fn serve(stream: TcpStream) -> Self {
        let mut frames = Self { stream };
        let mut preface = [0; PREFACE.len()];
        frames.stream.read_exact(&mut preface).await.expect("HTTP/2");
        frames.send(&[frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, ACK, 0, &[])].concat()).await;
        frames
    }

    /// Sends what the peer still takes.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes).await);
    }

    /// The next frame; `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        read(&mut self.stream).await
    }

    /// What comes until the peer has seen everything that was sent before.
    pub(crate) async fn ping(&mut self) -> Vec<Frame> {
        self.send(&frame(PING, 0, 0, b"are you?")).await;
        let mut before = Vec::new();
        while let Some(next) = self.next().await {
            if (next.kind, next.flags, &*next.payload) == (PING, ACK, b"are you?") {
                return before;
            }
            before.push(next);
        }
        panic!("the connection has ended after {before:?}");
    }

    /// Sends `bytes` and reads meanwhile; what came, and whether the connection is still there then.
    pub(crate) async fn flood(mut self, bytes: &[u8]) -> (Vec<Frame>, bool) {
        let (mut reader, mut writer) = self.stream.split();
        let end = frame(PING, 0, 0, b"the end!");
        let write = async {
            drop(writer.write_all(bytes).await);
            drop(writer.write_all(&end).await);
        };
        let read = async {
            let mut frames = Vec::new();
            while let Some(next) = read(&mut reader).await {
                if (next.kind, &*next.payload) == (PING, b"the end!") {
                    return (frames, true);
                }
                frames.push(next);
            }
            (frames, false)
        };
        // A peer that has ended the connection lets the writer fail as well.
        tokio::join!(write, read).1
    }

    /// The connection itself.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

async fn read(stream: &mut (impl AsyncReadExt + Unpin)) -> Option<Frame> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, number @ ..] = head;
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some(Frame { kind, flags, stream: u32::from_be_bytes(number), payload })
}
