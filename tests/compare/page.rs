//! The answer as a page.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::{Files, example, laggard};

pub(crate) fn page(fast: &Path, slow: &Path) -> String {
    let output = laggard(&[&fast, &slow, &"--format", &"html"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn the_page_has_the_verdict_the_table_and_both_traces_and_loads_nothing() {
    let page = page(&example("fast.jaeger.json"), &example("slow.zipkin.json"));
    for part in [
        "<h1><strong><bdi>pre-processor</bdi></strong> made it slow</h1>",
        "<b>476 ms</b></span> <code>4bf92f3577b34da6a3ce929d0e0e4736</code>",
        "<b>1207 ms</b></span> <code>9c1e5f7a2d8b4036b1f0c3a49e7d6251</code>",
        "<th scope=\"row\"><bdi>pre-processor</bdi></th><td>45.850</td><td>775.229</td><td>+729.379</td>",
        "<span>467 ms to 1198 ms</span> <b>+731 ms</b>",
        "<b class=\"badge\">culprit</b>",
        "<th scope=\"row\">Own time</th><td>45.9 ms</td><td>775 ms</td>",
        "<td>12.4 ms File saved<br>15.1 ms Starting inference<br>419 ms Inference completed</td>",
        "default-src 'none'",
        "prefers-color-scheme: dark",
    ] {
        assert!(page.contains(part), "{part} is not in:\n{page}");
    }
    assert_eq!(page.matches("<li class=\"culprit\"").count(), 1);
    assert_eq!(page.matches("<li class=\"").count(), 3, "a call that both have is one line");
    for forbidden in ["http://", "https://", "<script", "src=", "@import", "url("] {
        assert!(!page.contains(forbidden), "{forbidden} is in the page");
    }
}

#[test]
fn whatever_a_span_is_called_the_page_holds_no_markup_of_it() {
    let files = Files::new();
    let hostile = |name: &str| {
        let evil = json!("<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;\u{202e}</style>\0")
            .to_string();
        let text = fs::read_to_string(example(name)).expect("there");
        let evil = evil.trim_matches('"');
        let names = [
            "pre-processor",
            "preprocess-request",
            "inference-service-post",
            "File saved",
            "/predict",
            "image.width",
        ];
        names.iter().fold(text, |text, name| text.replace(name, &format!("{evil}{name}")))
    };
    for format in ["otlp", "jaeger", "zipkin"] {
        let fast = files.write("fast.json", hostile(&format!("fast.{format}.json")));
        let slow = files.write("slow.json", hostile(&format!("slow.{format}.json")));
        let page = page(&fast, &slow);
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&gt;"), "{format}");
        assert!(page.contains("made it slow"), "{format}");
        for markup in ["<script", "<img", "onerror=alert(1)>", "\u{202e}", "\0", "'>"] {
            assert!(!page.contains(markup), "{markup:?} is in the page of {format}");
        }
        assert_eq!(page.matches("</style>").count(), 1, "{format}");
    }
}

#[test]
fn a_page_without_a_verdict_says_why() {
    let page = page(&example("slow.otlp.json"), &example("fast.otlp.json"));
    assert!(page.contains("<h1>Inconclusive: not slower</h1>"), "{page}");
    assert!(
        page.contains("SLOW is the faster one: it took 476 ms, FAST 1207 ms; are they swapped?"),
        "{page}"
    );
    assert!(!page.contains("<li class=\"culprit\"") && !page.contains("<strong><bdi>"), "{page}");
}
