//! One export request, walked once: where each span lies, what it says of itself, and which resource and
//! scope enclose it.
//!
//! A request is read whole before any of it is taken, so one that turns out to be no protobuf leaves nothing
//! behind. The tables are reused from request to request: reading allocates nothing in steady state.

use super::attribute::{AnyValue, attributes};
use super::depth::attributes_nest_too_deep;
use super::span::{SpanFault, SpanHead, read_head};
use super::wire::{self, Field, Malformed};

/// Field numbers of the messages around spans; `ResourceSpans` and `ScopeSpans` nest alike.
pub mod field {
    /// `ExportTraceServiceRequest.resource_spans`.
    pub const RESOURCE_SPANS: u32 = 1;
    /// `ResourceSpans.resource` and `ScopeSpans.scope`.
    pub const HEAD: u32 = 1;
    /// `ResourceSpans.scope_spans` and `ScopeSpans.spans`.
    pub const CHILDREN: u32 = 2;
    /// `ResourceSpans.schema_url` and `ScopeSpans.schema_url`.
    pub const SCHEMA_URL: u32 = 3;
    /// `Resource.attributes`.
    pub const RESOURCE_ATTRIBUTES: u32 = 1;
    /// `InstrumentationScope.attributes`.
    pub const SCOPE_ATTRIBUTES: u32 = 3;
}

/// A stretch of bytes by offset; requests end below 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    start: u32,
    length: u32,
}

impl Stretch {
    /// The bytes of `whole` that this stretch covers.
    #[inline]
    pub fn of(self, whole: &[u8]) -> &[u8] {
        let start = self.start as usize;
        whole.get(start..start + self.length as usize).unwrap_or(&[])
    }

    /// Its length in bytes.
    pub fn length(self) -> u32 {
        self.length
    }

    /// The stretch of `whole` from `start` to its end.
    pub fn since(start: usize, whole: &[u8]) -> Result<Self, Malformed> {
        let length = whole.len().saturating_sub(start);
        Ok(Self {
            start: u32::try_from(start).map_err(|_| Malformed)?,
            length: u32::try_from(length).map_err(|_| Malformed)?,
        })
    }

    /// Where `part`, a slice of `whole`, lies in it.
    #[inline]
    fn within(part: &[u8], whole: &[u8]) -> Result<Self, Malformed> {
        let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        Ok(Self {
            start: u32::try_from(start).map_err(|_| Malformed)?,
            length: u32::try_from(part.len()).map_err(|_| Malformed)?,
        })
    }
}

/// The fields of a message with this number, which are messages too.
fn children(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    wire::fields(message).filter_map(move |field| match field {
        Ok(field) if field.number == number => Some(field.value.bytes()),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

/// A span of a request.
#[derive(Clone, Copy, Debug)]
pub struct BatchSpan {
    /// What the stages need to know of it.
    pub head: SpanHead,
    /// Its message in the request.
    pub body: Stretch,
    /// Which of [`Batch::scopes`] encloses it.
    pub scope: u32,
}

/// A `ScopeSpans` of a request, without its spans.
#[derive(Clone, Copy, Debug)]
pub struct BatchScope {
    /// Everything but the spans, in [`Batch::enclosing`].
    pub content: Stretch,
    /// Which of [`Batch::resources`] encloses it.
    pub resource: u32,
}

/// The tables of one request. Reuse it: [`Batch::read`] clears it first.
#[derive(Debug, Default)]
pub struct Batch {
    /// The spans that may be taken, in the order in which they stand.
    pub spans: Vec<BatchSpan>,
    /// The scopes, in order.
    pub scopes: Vec<BatchScope>,
    /// The resources, in order: everything of a `ResourceSpans` but its scopes, in `enclosing`.
    pub resources: Vec<Stretch>,
    /// The bytes around the spans, which stand on both sides of them and are brought together here.
    pub enclosing: Vec<u8>,
    /// How many spans are refused.
    pub refused: u64,
    /// Why the first of them is.
    pub fault: Option<SpanFault>,
}

impl Batch {
    /// Walks `request`, an encoded `ExportTraceServiceRequest`.
    ///
    /// # Errors
    /// [`Malformed`] when it is no protobuf, or a field we read has another wire type.
    pub fn read(&mut self, request: &[u8]) -> Result<(), Malformed> {
        self.clear();
        for field in wire::fields(request) {
            let field = field?;
            if field.number == field::RESOURCE_SPANS {
                self.resource_spans(field.value.bytes()?, request)?;
            }
        }
        Ok(())
    }

    /// Bytes that reading `request` takes beside it.
    ///
    /// # Errors
    /// [`Malformed`] when it is no protobuf.
    pub fn tables_of(request: &[u8]) -> Result<usize, Malformed> {
        let (mut bytes, mut enclosing) = (0, request.len());
        for resource_spans in children(request, field::RESOURCE_SPANS) {
            bytes += size_of::<Stretch>();
            for scope_spans in children(resource_spans?, field::CHILDREN) {
                bytes += size_of::<BatchScope>();
                for span in children(scope_spans?, field::CHILDREN) {
                    bytes += size_of::<BatchSpan>();
                    enclosing -= span?.len();
                }
            }
        }
        // Tables grow by doubling, and are copied when they do.
        Ok(2 * bytes + enclosing)
    }

    /// Forgets the last request; a table that a huge request has grown is given back.
    pub fn clear(&mut self) {
        const KEEP: usize = 1 << 16;
        self.spans.clear();
        self.spans.shrink_to(KEEP);
        self.scopes.clear();
        self.scopes.shrink_to(KEEP);
        self.resources.clear();
        self.resources.shrink_to(KEEP);
        self.enclosing.clear();
        self.enclosing.shrink_to(16 * KEEP);
        self.refused = 0;
        self.fault = None;
    }

    fn resource_spans(&mut self, message: &[u8], request: &[u8]) -> Result<(), Malformed> {
        let resource = u32::try_from(self.resources.len()).map_err(|_| Malformed)?;
        let start = self.enclosing.len();
        // The resource may, and the schema URL does, stand behind the scopes, so what encloses them is
        // gathered first.
        let mut is_too_deep = false;
        for field in wire::fields(message) {
            let field = field?;
            if field.number == field::CHILDREN {
                field.value.bytes()?;
            } else {
                is_too_deep |= self.enclose(field, field::RESOURCE_ATTRIBUTES)?;
            }
        }
        self.resources.push(Stretch::since(start, &self.enclosing)?);
        for field in wire::fields(message) {
            let field = field?;
            if field.number == field::CHILDREN {
                self.scope_spans(field.value.bytes()?, resource, is_too_deep, request)?;
            }
        }
        Ok(())
    }

    fn scope_spans(
        &mut self,
        message: &[u8],
        resource: u32,
        is_resource_too_deep: bool,
        request: &[u8],
    ) -> Result<(), Malformed> {
        let scope = u32::try_from(self.scopes.len()).map_err(|_| Malformed)?;
        let start = self.enclosing.len();
        let first_span = self.spans.len();
        let mut is_too_deep = is_resource_too_deep;
        for field in wire::fields(message) {
            let field = field?;
            if field.number != field::CHILDREN {
                is_too_deep |= self.enclose(field, field::SCOPE_ATTRIBUTES)?;
                continue;
            }
            let body = field.value.bytes()?;
            match read_head(body)? {
                Ok(head) => self.spans.push(BatchSpan { head, body: Stretch::within(body, request)?, scope }),
                Err(fault) => self.refuse(1, fault),
            }
        }
        if is_too_deep && self.spans.len() > first_span {
            // What encloses a span leaves with it, so its depth is the span's.
            self.refuse((self.spans.len() - first_span) as u64, SpanFault::TooDeep);
            self.spans.truncate(first_span);
        }
        self.scopes.push(BatchScope { content: Stretch::since(start, &self.enclosing)?, resource });
        Ok(())
    }

    /// Keeps a field that stands beside the children of a `ResourceSpans` or `ScopeSpans`. Returns whether it is
    /// the head and one of its `attributes` nests too deep.
    fn enclose(&mut self, field: Field<'_>, attributes: u32) -> Result<bool, Malformed> {
        self.enclosing.extend_from_slice(field.raw);
        match field.number {
            field::HEAD => attributes_nest_too_deep(field.value.bytes()?, attributes),
            field::SCHEMA_URL => field.value.bytes().map(|_| false),
            _ => Ok(false),
        }
    }

    fn refuse(&mut self, spans: u64, fault: SpanFault) {
        self.refused += spans;
        self.fault.get_or_insert(fault);
    }
}

/// The `service.name` in the content of a `ResourceSpans`; of several the last, empty where there is none.
pub fn service_name(resource_spans: &[u8]) -> &[u8] {
    wire::messages(resource_spans, field::HEAD)
        .flat_map(|resource| attributes(resource, field::RESOURCE_ATTRIBUTES))
        .filter_map(|attribute| match attribute.value {
            AnyValue::String(name) if attribute.key == b"service.name" => Some(name),
            _ => None,
        })
        .last()
        .unwrap_or(&[])
}

/// Appends one `ResourceSpans` field head and its `resource` part; `children` is the size in bytes of the
/// `scope_spans` fields that the caller appends next.
pub fn put_resource_spans(out: &mut Vec<u8>, resource: &[u8], children: usize) {
    wire::put_length(out, field::RESOURCE_SPANS, resource.len() + children);
    out.extend_from_slice(resource);
}

/// Appends one `ScopeSpans` field head and its `scope` part; `children` is the size in bytes of the `spans`
/// fields that the caller appends next.
pub fn put_scope_spans(out: &mut Vec<u8>, scope: &[u8], children: usize) {
    wire::put_length(out, field::CHILDREN, scope.len() + children);
    out.extend_from_slice(scope);
}

/// The size in bytes of a `ScopeSpans` field, as [`put_scope_spans`] and its children make it.
pub fn scope_spans_size(scope: &[u8], children: usize) -> usize {
    wire::length_delimited_size(field::CHILDREN, scope.len() + children)
}

#[cfg(test)]
mod tests {
    use super::super::wire::put_bytes;
    use super::*;

    fn span(id: u8) -> Vec<u8> {
        let mut span = Vec::new();
        put_bytes(&mut span, 1, &[id; 16]);
        put_bytes(&mut span, 2, &[id; 8]);
        span
    }

    #[test]
    fn a_span_knows_what_encloses_it_on_both_sides() {
        let mut scope = Vec::new();
        put_bytes(&mut scope, 1, b"\x0a\x01s");
        put_bytes(&mut scope, 2, &span(1));
        put_bytes(&mut scope, 2, &span(0));
        put_bytes(&mut scope, 2, &span(2));
        put_bytes(&mut scope, 3, b"scope url");
        let mut resource = Vec::new();
        put_bytes(&mut resource, 1, b"\x10\x01");
        put_bytes(&mut resource, 2, &scope);
        put_bytes(&mut resource, 3, b"resource url");
        let mut request = Vec::new();
        put_bytes(&mut request, 1, &resource);

        let mut batch = Batch::default();
        batch.read(&request).expect("valid");
        let bodies: Vec<_> = batch.spans.iter().map(|s| s.body.of(&request).to_vec()).collect();
        assert_eq!(bodies, [span(1), span(2)]);
        assert_eq!((batch.refused, batch.fault), (1, Some(SpanFault::TraceId)));
        assert_eq!(batch.resources[0].of(&batch.enclosing), b"\x0a\x02\x10\x01\x1a\x0cresource url");
        assert_eq!(batch.scopes[0].content.of(&batch.enclosing), b"\x0a\x03\x0a\x01s\x1a\x09scope url");
    }

    #[test]
    fn a_request_without_spans_is_empty() {
        let mut batch = Batch::default();
        for request in [&b""[..], &[0x0a, 0x00], &[0x0a, 0x02, 0x12, 0x00]] {
            batch.read(request).expect("valid");
            assert!(batch.spans.is_empty());
        }
    }
}
