//! Protobuf as it comes in.

/// Whatever prost accepts is accepted and read alike, what is accepted has a sound skeleton, and taken apart into
/// traces and written again it is what it was.
pub(crate) fn check(bytes: &[u8]) {
    if let Err(error) = crate::oracle::check_bytes(bytes) {
        panic!("{error}");
    }
}
