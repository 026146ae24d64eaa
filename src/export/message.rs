//! A request's one message, sent as the bytes that the queue holds.
//!
//! tonic's codec copies a message into a buffer of its own, and one that it compresses into two, and keeps them until
//! the destination has answered: with eight requests open that is as much again as the queue counts. So tonic is given
//! an empty message, and the channel puts this one in its place.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request};
use http_body::Frame;
use tonic::body::Body;

use super::compress::compressed;
use crate::config::Compression;

const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// One byte that says whether the message is compressed, four for its length.
const PREFIX: usize = 5;

/// A message, compressed where it is to be.
#[derive(Clone, Debug)]
pub(super) struct Message {
    content: Bytes,
    encoding: Option<&'static str>,
}

impl Message {
    /// `content`, encoded by `compression`.
    pub(super) fn new(content: &Bytes, compression: Compression) -> Self {
        let (encoding, content) = compressed(content.clone(), compression);
        Self { content, encoding }
    }

    /// Bytes that it takes beside those that it was made of.
    pub(super) fn copied(&self) -> u64 {
        self.encoding.map_or(0, |_| self.content.len() as u64)
    }

    /// A request that carries it to [`Message::put_into`].
    pub(super) fn into_request<M: Default>(self) -> tonic::Request<M> {
        let mut request = tonic::Request::new(M::default());
        request.extensions_mut().insert(self);
        request
    }

    /// Makes the message that `request` carries, if it does, its body.
    pub(super) fn put_into(request: &mut Request<Body>) {
        let Some(message) = request.extensions_mut().remove::<Self>() else { return };
        if let Some(encoding) = message.encoding {
            request.headers_mut().insert(GRPC_ENCODING, HeaderValue::from_static(encoding));
        }
        *request.body_mut() = Body::new(message.framed());
    }

    fn framed(self) -> Framed {
        let mut prefix = BytesMut::with_capacity(PREFIX);
        prefix.put_u8(u8::from(self.encoding.is_some()));
        // A batch is bounded by `export.batch.max_size`, or is one trace: both end far below 4 GiB.
        prefix.put_u32(u32::try_from(self.content.len()).unwrap_or(u32::MAX));
        Framed {
            prefix: Some(prefix.freeze()),
            content: Some(self.content).filter(|content| !content.is_empty()),
        }
    }
}

/// The body of a request with one message.
#[derive(Debug)]
struct Framed {
    prefix: Option<Bytes>,
    content: Option<Bytes>,
}

impl http_body::Body for Framed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.prefix.take().or_else(|| self.content.take());
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.prefix.is_none() && self.content.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(content: &Bytes, compression: Compression) -> Request<Body> {
        let message = Message::new(content, compression);
        let (_, extensions, ()) = message.into_request::<()>().into_parts();
        let mut request = Request::new(Body::empty());
        *request.extensions_mut() = extensions;
        Message::put_into(&mut request);
        request
    }

    #[test]
    fn a_message_that_is_not_compressed_leaves_as_the_very_bytes_it_came_in() {
        let content = Bytes::from(vec![7; 1000]);
        let message = Message::new(&content, Compression::None);
        let Framed { prefix, content: framed } = message.framed();
        assert_eq!(prefix.as_deref(), Some(&[0, 0, 0, 3, 232][..]));
        assert_eq!(framed.map(|framed| framed.as_ptr()), Some(content.as_ptr()), "no copy");
        assert!(!sent(&content, Compression::None).headers().contains_key(GRPC_ENCODING));
    }

    #[test]
    fn a_compressed_message_says_how() {
        let content = Bytes::from(vec![7; 1000]);
        for (compression, name) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
            let message = Message::new(&content, compression);
            let Framed { prefix, content: framed } = message.framed();
            assert_eq!(
                Message::new(&content, compression).copied(),
                framed.as_ref().map_or(0, Bytes::len) as u64
            );
            assert_eq!(prefix.and_then(|prefix| prefix.first().copied()), Some(1));
            assert!(framed.is_some_and(|framed| framed.len() < 100));
            assert_eq!(sent(&content, compression).headers()[GRPC_ENCODING], name);
        }
    }

    #[test]
    fn a_request_without_a_message_is_left_alone() {
        let mut request = Request::new(Body::empty());
        Message::put_into(&mut request);
        assert!(request.headers().is_empty());
    }
}
