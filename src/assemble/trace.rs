//! One trace, taken out of the store: span bodies as they came, and what encloses each.

use std::collections::BTreeMap;

use crate::otlp::TraceId;
use crate::otlp::attribute::{Attribute, attributes};
use crate::otlp::batch::{self, Batch, BatchScope, BatchSpan, Stretch};
use crate::otlp::sound;
use crate::otlp::span::{SpanHead, SpanView};
use crate::otlp::wire::{self, Malformed};

/// The spans of one trace on one buffer, in the order in which they arrived.
#[derive(Clone, Debug)]
pub struct Trace {
    id: TraceId,
    bytes: Vec<u8>,
    resources: Vec<Stretch>,
    scopes: Vec<BatchScope>,
    spans: Vec<BatchSpan>,
}

impl Trace {
    /// A trace without spans.
    pub fn new(id: TraceId) -> Self {
        Self { id, bytes: Vec::new(), resources: Vec::new(), scopes: Vec::new(), spans: Vec::new() }
    }

    /// A trace without spans, with room for so many of so many bytes in all.
    pub(super) fn with_capacity(id: TraceId, spans: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), spans: Vec::with_capacity(spans), ..Self::new(id) }
    }

    /// The traces of an encoded `ExportTraceServiceRequest`, by trace id; spans with invalid ids are left out.
    ///
    /// # Errors
    /// [`Malformed`] when it is no protobuf.
    pub fn all_in(request: &[u8]) -> Result<Vec<Self>, Malformed> {
        /// A trace being put together, and the numbers that the request's resources and scopes have in it.
        struct Part {
            trace: Trace,
            resources: BTreeMap<u32, u32>,
            scopes: BTreeMap<u32, u32>,
        }
        let mut batch = Batch::default();
        batch.read(request)?;
        let mut parts: BTreeMap<TraceId, Part> = BTreeMap::new();
        for span in &batch.spans {
            let id = span.head.trace_id;
            let Part { trace, resources, scopes } = parts.entry(id).or_insert_with(|| Part {
                trace: Self::new(id),
                resources: BTreeMap::new(),
                scopes: BTreeMap::new(),
            });
            let scope = match scopes.get(&span.scope) {
                Some(scope) => *scope,
                None => {
                    let found = batch.scopes.get(span.scope as usize).ok_or(Malformed)?;
                    let resource = match resources.get(&found.resource) {
                        Some(resource) => *resource,
                        None => {
                            let content = batch.resources.get(found.resource as usize).ok_or(Malformed)?;
                            let resource = trace.push_resource(content.of(&batch.enclosing))?;
                            resources.insert(found.resource, resource);
                            resource
                        }
                    };
                    let scope = trace.push_scope(found.content.of(&batch.enclosing), resource)?;
                    scopes.insert(span.scope, scope);
                    scope
                }
            };
            trace.push_span(span.head, span.body.of(request), scope)?;
        }
        Ok(parts.into_values().map(|part| part.trace).collect())
    }

    /// Appends what encloses scopes: a `ResourceSpans` without its `scope_spans`. Returns its index.
    pub fn push_resource(&mut self, content: &[u8]) -> Result<u32, Malformed> {
        let stretch = self.append(content)?;
        self.resources.push(stretch);
        u32::try_from(self.resources.len() - 1).map_err(|_| Malformed)
    }

    /// Appends what encloses spans: a `ScopeSpans` without its `spans`. Returns its index.
    pub fn push_scope(&mut self, content: &[u8], resource: u32) -> Result<u32, Malformed> {
        let content = self.append(content)?;
        self.scopes.push(BatchScope { content, resource });
        u32::try_from(self.scopes.len() - 1).map_err(|_| Malformed)
    }

    /// Appends a span of the scope with this index.
    pub fn push_span(&mut self, head: SpanHead, body: &[u8], scope: u32) -> Result<(), Malformed> {
        let body = self.append(body)?;
        self.spans.push(BatchSpan { head, body, scope });
        Ok(())
    }

    /// Puts `body` in the place of a span's body; ids and times stay what they were.
    pub fn replace_body(&mut self, span: usize, body: &[u8]) -> Result<(), Malformed> {
        let body = self.append(body)?;
        if let Some(span) = self.spans.get_mut(span) {
            span.body = body;
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<Stretch, Malformed> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        Stretch::since(start, &self.bytes)
    }

    /// Bytes that it takes, on the heap and off it.
    pub fn size(&self) -> usize {
        size_of::<Self>()
            + self.bytes.capacity()
            + self.resources.capacity() * size_of::<Stretch>()
            + self.scopes.capacity() * size_of::<BatchScope>()
            + self.spans.capacity() * size_of::<BatchSpan>()
    }

    /// The id of every span in it.
    pub fn id(&self) -> TraceId {
        self.id
    }

    /// How many spans it has.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// The heads of its spans, in order.
    pub fn heads(&self) -> impl ExactSizeIterator<Item = &SpanHead> {
        self.spans.iter().map(|span| &span.head)
    }

    /// The span with this index, from the start of [`Trace::heads`].
    pub fn span(&self, index: usize) -> Option<SpanView<'_>> {
        let span = self.spans.get(index)?;
        Some(SpanView { head: span.head, body: span.body.of(&self.bytes) })
    }

    /// Which resource a span has: the same number for spans of the same `ResourceSpans`.
    pub fn resource_of(&self, span: usize) -> Option<usize> {
        let scope = self.scopes.get(self.spans.get(span)?.scope as usize)?;
        Some(scope.resource as usize)
    }

    /// The attributes of a resource, by its number.
    pub fn resource_attributes(&self, resource: usize) -> impl Iterator<Item = Attribute<'_>> {
        let content = self.resources.get(resource).map_or(&[][..], |content| content.of(&self.bytes));
        wire::messages(content, batch::field::HEAD)
            .flat_map(|resource| attributes(resource, batch::field::RESOURCE_ATTRIBUTES))
    }

    /// The `service.name` of a span's resource, of several the last; empty where it has none.
    pub fn service_of(&self, span: usize) -> &[u8] {
        let scope = self.spans.get(span).and_then(|span| self.scopes.get(span.scope as usize));
        let content = scope.and_then(|scope| self.resources.get(scope.resource as usize));
        content.map_or(&[], |content| batch::service_name(content.of(&self.bytes)))
    }

    /// Whether a strict reader would take each span, with what encloses it; see [`sound`].
    pub fn soundness(&self) -> Vec<bool> {
        let resources: Vec<bool> =
            self.resources.iter().map(|resource| sound::resource(resource.of(&self.bytes))).collect();
        let is_sound_scope = |scope: &BatchScope| {
            resources.get(scope.resource as usize).copied().unwrap_or(false)
                && sound::scope(scope.content.of(&self.bytes))
        };
        let scopes: Vec<bool> = self.scopes.iter().map(is_sound_scope).collect();
        let is_sound_span = |span: &BatchSpan| {
            scopes.get(span.scope as usize).copied().unwrap_or(false)
                && sound::span(span.body.of(&self.bytes))
        };
        self.spans.iter().map(is_sound_span).collect()
    }

    /// Appends the trace to `out` as fields of an `ExportTraceServiceRequest`: spans of one resource and scope
    /// stay together and in order. Requests of several traces are their concatenation.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_where(out, |_| true);
    }

    /// Appends the spans whose index `is_wanted`, as [`Trace::encode`] does.
    pub fn encode_where(&self, out: &mut Vec<u8>, is_wanted: impl Fn(usize) -> bool) {
        // The key and the length of a span are shorter than this, and enclosing fields are few.
        out.reserve(self.bytes.len() + self.spans.len() * 5 + 32);
        let mut by_scope: Vec<(u32, u32, usize)> = Vec::with_capacity(self.spans.len());
        for (index, span) in self.spans.iter().enumerate().filter(|(index, _)| is_wanted(*index)) {
            let resource = self.scopes.get(span.scope as usize).map_or(0, |scope| scope.resource);
            by_scope.push((resource, span.scope, index));
        }
        by_scope.sort_unstable();
        let body = |index: usize| self.spans.get(index).map_or(&[][..], |span| span.body.of(&self.bytes));
        let spans_size = |spans: &[(u32, u32, usize)]| -> usize {
            spans
                .iter()
                .map(|(.., index)| wire::length_delimited_size(batch::field::CHILDREN, body(*index).len()))
                .sum()
        };
        let scope_content = |scope: u32| {
            self.scopes.get(scope as usize).map_or(&[][..], |scope| scope.content.of(&self.bytes))
        };
        for of_resource in by_scope.chunk_by(|a, b| a.0 == b.0) {
            let Some((resource, ..)) = of_resource.first() else { continue };
            let content =
                self.resources.get(*resource as usize).map_or(&[][..], |content| content.of(&self.bytes));
            let children = of_resource
                .chunk_by(|a, b| a.1 == b.1)
                .map(|spans| {
                    let scope = spans.first().map_or(0, |span| span.1);
                    batch::scope_spans_size(scope_content(scope), spans_size(spans))
                })
                .sum();
            batch::put_resource_spans(out, content, children);
            for spans in of_resource.chunk_by(|a, b| a.1 == b.1) {
                let scope = spans.first().map_or(0, |span| span.1);
                batch::put_scope_spans(out, scope_content(scope), spans_size(spans));
                for (.., index) in spans {
                    wire::put_bytes(out, batch::field::CHILDREN, body(*index));
                }
            }
        }
    }
}
