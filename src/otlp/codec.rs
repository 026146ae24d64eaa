//! A tonic codec that hands message bodies on as bytes.
//!
//! tonic has already put the frames of a message into one buffer and undone its compression, under its size
//! limit; `copy_to_bytes` then splits that buffer off without copying it.

use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// The encoded body of one gRPC request or response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body(pub Bytes);

/// Passes [`Body`] through in both directions.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Body;
    type Decode = Body;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Body;
    type Error = Status;

    fn encode(&mut self, item: Body, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // Without it the buffer grows, and copies, several times on its way to a large batch.
        dst.reserve(item.0.len());
        dst.put(item.0);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Body;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Body>, Status> {
        Ok(Some(Body(src.copy_to_bytes(src.remaining()))))
    }
}
