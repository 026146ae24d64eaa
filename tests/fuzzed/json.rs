//! OTLP/JSON as it comes in.

use laggard::otlp::batch::Batch;
use laggard::otlp::json;
use laggard::otlp::span::SpanView;

/// Text that is taken becomes protobuf that is taken whole and is bounded by it; of a fault a line is told.
pub(crate) fn check(text: &[u8]) {
    let Ok(decoded) = json::to_protobuf(text) else { return };
    // The budget of bytes in flight relies on it. A byte that is no text becomes U+FFFD, which is three.
    let most = if std::str::from_utf8(text).is_ok() { text.len() } else { 3 * text.len() };
    assert!(decoded.request.len() <= most, "{} bytes out of {}", decoded.request.len(), text.len());
    let mut batch = Batch::default();
    batch.read(&decoded.request).expect("protobuf");
    assert_eq!((batch.refused, batch.fault), (0, None), "nothing more to refuse");
    for span in &batch.spans {
        let view = SpanView::read(span.body.of(&decoded.request)).expect("a span");
        assert!(std::str::from_utf8(view.name()).is_ok() && std::str::from_utf8(view.trace_state()).is_ok());
        let _ = (view.attributes().count(), view.events().count());
    }
    assert_eq!(decoded.refused > 0, decoded.fault.is_some());
    if let Some(fault) = decoded.fault {
        let is_a_line = !fault.is_empty() && !fault.chars().any(char::is_control);
        assert!(is_a_line && fault.chars().count() < 600, "{fault:?}");
    }
}
