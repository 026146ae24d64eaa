//! Checks what a destination answers before tonic reads it.
//!
//! The destination is not ours: its answer is bounded, its details are decodable or left out (tonic would
//! panic), and an answer that breaks off is a failure of the connection, not an answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Frame;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::StdError;

/// The longest answer that is read, in bytes.
pub(super) const LONGEST_ANSWER: usize = 4 << 20;
/// A gRPC message begins with a flag and its length.
const MESSAGE_HEAD: usize = 5;

const DETAILS: &str = "grpc-status-details-bin";
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why an answer could not be read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unread {
    /// Above 4 MiB.
    #[error("the answer is longer than 4 MiB")]
    TooLong,
    /// No status came behind it: the connection, or something between us, gave up.
    #[error("the answer broke off")]
    BrokenOff,
}

impl Unread {
    /// Whether `status` stands for such an answer.
    pub(super) fn behind(status: &Status) -> Option<Self> {
        let mut source = std::error::Error::source(status);
        while let Some(error) = source {
            if let Some(unread) = error.downcast_ref::<Self>() {
                return Some(*unread);
            }
            source = error.source();
        }
        None
    }
}

/// `response` with its check built in.
pub(super) fn response(mut response: Response<Body>) -> Response<Body> {
    drop_unreadable_details(response.headers_mut());
    let is_grpc = response.status() == StatusCode::OK
        && response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|content_type| content_type.as_bytes().starts_with(b"application/grpc"));
    let must_end_with_trailers = is_grpc && !response.headers().contains_key("grpc-status");
    response
        .map(|body| Body::new(Guarded { body, must_end_with_trailers, length: 0, head: [0; MESSAGE_HEAD] }))
}

fn drop_unreadable_details(headers: &mut HeaderMap) {
    if headers.get(DETAILS).is_some_and(|details| BASE64.decode(details).is_err()) {
        headers.remove(DETAILS);
    }
}

struct Guarded {
    body: Body,
    must_end_with_trailers: bool,
    length: usize,
    head: [u8; MESSAGE_HEAD],
}

impl Guarded {
    /// Looks at the announced length too, since tonic reserves it at once.
    fn check(&mut self, data: &Bytes) -> Result<(), Unread> {
        if let Some(missing) = self.head.get_mut(self.length..) {
            for (to, from) in missing.iter_mut().zip(data.iter()) {
                *to = *from;
            }
        }
        self.length = self.length.saturating_add(data.len());
        let [_, announced @ ..] = self.head;
        let is_announced = self.length >= MESSAGE_HEAD;
        if self.length > LONGEST_ANSWER
            || is_announced && u32::from_be_bytes(announced) as usize > LONGEST_ANSWER - MESSAGE_HEAD
        {
            return Err(Unread::TooLong);
        }
        Ok(())
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        let Some(frame) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
            let is_broken = std::mem::take(&mut self.must_end_with_trailers);
            return Poll::Ready(is_broken.then(|| Err(Unread::BrokenOff.into())));
        };
        let mut frame = frame?;
        if let Some(data) = frame.data_ref() {
            self.check(data)?;
        } else if let Some(trailers) = frame.trailers_mut() {
            drop_unreadable_details(trailers);
            self.must_end_with_trailers = false;
        }
        Poll::Ready(Some(Ok(frame)))
    }
}
