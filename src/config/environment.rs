//! The variables that the OpenTelemetry specification has for exporters, where the file does not say where traces go.
//!
//! Together they say how one destination is reached, so a file that names another makes all of them mean nothing here.
//! Where they count, a key that the file has wins over its variable, and a variable for traces over the general one.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Uri;

use super::destination::TRACES;
use super::problem::{Problem, shown_value};
use super::tree::{Tree, is_within};
use super::{Compression, Export, Protocol};

/// The key without which nothing can be sent.
pub(super) const ENDPOINT: &str = "export.endpoint";

const PREFIX: &str = "OTEL_EXPORTER_OTLP_";
/// Between the prefix and the name where a variable is for traces alone.
const FOR_TRACES: &str = "TRACES_";
/// Of the signals that are passed through.
const FOR_OTHERS: [&str; 2] = ["METRICS_", "LOGS_"];

/// How the value of a variable becomes that of a key; what it breaks otherwise.
type Take = fn(&mut Export, &str) -> Result<(), &'static str>;

/// The key of each variable that has one.
const KEYS: [(&str, &str, Take); 7] = [
    ("PROTOCOL", "export.protocol", take_protocol),
    ("HEADERS", "export.headers", take_headers),
    ("TIMEOUT", "export.timeout", take_timeout),
    ("COMPRESSION", "export.compression", take_compression),
    ("CERTIFICATE", "export.tls.ca_file", |export, path| {
        export.tls.ca_file = path.into();
        Ok(())
    }),
    ("CLIENT_CERTIFICATE", "export.tls.cert_file", |export, path| {
        export.tls.cert_file = path.into();
        Ok(())
    }),
    ("CLIENT_KEY", "export.tls.key_file", |export, path| {
        export.tls.key_file = path.into();
        Ok(())
    }),
];

/// Variables without a key: whether TLS is spoken is told by the scheme of the endpoint.
const WITHOUT_KEY: [&str; 1] = ["INSECURE"];

/// The variable that is named to who has said nothing.
pub(super) fn general_endpoint() -> String {
    format!("{PREFIX}ENDPOINT")
}

/// Which keys come from the environment.
#[derive(Debug, Default)]
pub(super) struct Environment {
    /// Keys with the variable that each was taken from.
    taken: Vec<(&'static str, String)>,
    /// What is wrong with single values.
    pub(super) problems: Vec<Problem>,
}

impl Environment {
    /// Completes `export`, which was read from `tree`, by what `env` looks up. Its endpoint is empty when neither has one.
    pub(super) fn complete(export: &mut Export, tree: &Tree, env: &dyn Fn(&str) -> Option<String>) -> Self {
        // An empty variable counts as none, as the specification has it.
        let set = |name: &str| env(name).filter(|value| !value.is_empty());
        let mut environment = Self::default();
        if tree.find(ENDPOINT).is_none() || export.endpoint.is_empty() {
            environment.take_all(export, tree, &set);
        }
        let names = KEYS.iter().map(|(name, ..)| *name).chain(WITHOUT_KEY).chain(["ENDPOINT"]);
        let variables = names.flat_map(|name| {
            let signals = [FOR_TRACES, ""].into_iter().chain(FOR_OTHERS);
            signals.map(move |signal| format!("{PREFIX}{signal}{name}"))
        });
        let is_taken = |variable: &String| environment.taken.iter().any(|(_, taken)| taken == variable);
        export.unused_variables =
            variables.filter(|variable| set(variable).is_some() && !is_taken(variable)).collect();
        export.unused_variables.sort();
        environment
    }

    fn take_all(&mut self, export: &mut Export, tree: &Tree, set: &dyn Fn(&str) -> Option<String>) {
        let find = |name: &str| {
            [FOR_TRACES, ""].into_iter().find_map(|signal| {
                let variable = format!("{PREFIX}{signal}{name}");
                set(&variable).map(|value| (signal, variable, value))
            })
        };
        let Some((signal, variable, endpoint)) = find("ENDPOINT") else {
            export.endpoint.clear();
            return;
        };
        export.endpoint = endpoint;
        self.taken.push((ENDPOINT, variable));
        for (name, key, take) in KEYS {
            let Some((_, variable, value)) = find(name).filter(|_| tree.find(key).is_none()) else {
                continue;
            };
            if let Err(rule) = take(export, &value) {
                let got = Some(shown_value(key, &value));
                let (key, rule) = (variable.clone(), rule.to_owned());
                self.problems.push(Problem { position: None, key, rule, got, did_you_mean: None });
            }
            self.taken.push((key, variable));
        }
        if signal == FOR_TRACES && export.protocol == Protocol::HttpProtobuf {
            take_whole(export);
        }
    }

    /// The variable that `key`, or what is around it, was taken from.
    pub(super) fn variable_of(&self, key: &str) -> Option<&str> {
        self.taken.iter().find(|(taken, _)| is_within(key, taken)).map(|(_, variable)| variable.as_str())
    }
}

fn take_protocol(export: &mut Export, value: &str) -> Result<(), &'static str> {
    export.protocol = match value {
        "grpc" => Protocol::Grpc,
        "http/protobuf" => Protocol::HttpProtobuf,
        _ => return Err("must be one of grpc, http/protobuf"),
    };
    Ok(())
}

fn take_compression(export: &mut Export, value: &str) -> Result<(), &'static str> {
    export.compression = match value {
        "none" => Compression::None,
        "gzip" => Compression::Gzip,
        "zstd" => Compression::Zstd,
        _ => return Err("must be one of none, gzip, zstd"),
    };
    Ok(())
}

fn take_timeout(export: &mut Export, value: &str) -> Result<(), &'static str> {
    let milliseconds = value.parse().map_err(|_| "must be a whole number of milliseconds")?;
    export.timeout = Duration::from_millis(milliseconds);
    Ok(())
}

fn take_headers(export: &mut Export, value: &str) -> Result<(), &'static str> {
    const RULE: &str = "must be NAME=VALUE pairs with commas between them, values percent-encoded";
    let pairs = value.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let headers: Option<BTreeMap<_, _>> = pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=')?;
            Some((name.trim().to_owned(), decoded(value.trim())?))
        })
        .collect();
    export.headers = headers.ok_or(RULE)?;
    Ok(())
}

/// Undoes percent-encoding; a percent sign that stands for itself is none.
fn decoded(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

/// The variable for traces alone is the whole URL, to be used as it is; the general one is a base, as ours is.
fn take_whole(export: &mut Export) {
    if let Some(base) = export.endpoint.strip_suffix(TRACES) {
        export.endpoint = base.to_owned();
        return;
    }
    // Another path is that of traces alone, so the other signals go by the host.
    let Ok(uri) = export.endpoint.parse::<Uri>() else { return };
    let is_bare = !export.endpoint.contains(['@', '#', '?']);
    if let (true, Some(scheme), Some(authority)) = (is_bare, uri.scheme(), uri.authority()) {
        uri.path().clone_into(&mut export.traces_path);
        export.endpoint = format!("{scheme}://{authority}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_pairs_with_percent_encoded_values() {
        let mut export = Export::default();
        let taken = take_headers(&mut export, " a = b%20c%3D , Authorization=Basic%20eA==,,empty=");
        assert_eq!(taken, Ok(()));
        let headers: Vec<_> = export.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(headers, [("Authorization", "Basic eA=="), ("a", "b c="), ("empty", "")]);
        for wrong in ["a", "a=b,c", "a=%", "a=%1", "a=%+1", "a=%zz", "a=%ff"] {
            assert!(take_headers(&mut export, wrong).is_err(), "{wrong}");
        }
    }
}
