//! The JSON schema of a configuration, taken from the types that read one.
//!
//! serde tells every key and the kind of its value to whoever deserializes, so a deserializer that answers with made-up
//! values and takes notes sees all there is: there is no second list of keys that could differ. A value with a syntax of
//! its own, such as a duration, refuses the made-up text with its rule, which is noted and not asked for again.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::de::{self, DeserializeSeed, Visitor, value::StrDeserializer};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{Config, units};

/// Refused by every value that has a syntax.
const MADE_UP: &str = "\u{1}";
/// Text with a variable is not known before it runs.
const VARIABLE: &str = r"\$\{env:";

/// The JSON schema (draft 7) of a configuration file.
pub fn schema() -> Value {
    let notes = RefCell::new(BTreeMap::new());
    // Each round notes at least one more value with a syntax of its own, or is the last one.
    while let Err(fault) = Config::deserialize(Probe { path: String::new(), notes: &notes }) {
        if notes.borrow_mut().insert(fault.path.clone(), Kind::Syntax(fault.rule)).is_none() {
            break;
        }
    }
    let mut schema = describe(&notes.borrow(), "");
    if let Some(schema) = schema.as_object_mut() {
        schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
        schema.insert("title".to_owned(), json!("The configuration of Laggard"));
    }
    schema
}

/// What a value is.
#[derive(Clone, Debug)]
enum Kind {
    Keys(&'static [&'static str]),
    Names,
    List,
    Choice(&'static [&'static str]),
    Boolean,
    Whole {
        most: u64,
    },
    Number,
    Text,
    /// Text that must follow a rule.
    Syntax(String),
}

fn describe(notes: &BTreeMap<String, Kind>, path: &str) -> Value {
    let within = |name: &str| describe(notes, &format!("{path}/{name}"));
    match notes.get(path) {
        Some(Kind::Keys(keys)) => {
            let properties: BTreeMap<_, _> = keys.iter().map(|key| (*key, within(key))).collect();
            // A key with all of its children commented out has its defaults.
            json!({"type": ["object", "null"], "additionalProperties": false, "properties": properties})
        }
        Some(Kind::Names) => json!({"type": ["object", "null"], "additionalProperties": within("*")}),
        Some(Kind::List) => json!({"type": ["array", "null"], "items": within("*")}),
        Some(Kind::Choice(choices)) => or_variable(&json!({"enum": choices})),
        Some(Kind::Boolean) => or_variable(&json!({"type": "boolean"})),
        Some(Kind::Whole { most }) => or_variable(&json!({"type": "integer", "minimum": 0, "maximum": most})),
        Some(Kind::Number) => or_variable(&json!({"type": "number"})),
        Some(Kind::Text) => json!({"type": ["string", "number", "boolean"]}),
        Some(Kind::Syntax(rule)) => {
            let pattern = units::pattern(rule).map(|pattern| format!("^(?:{pattern})$|{VARIABLE}"));
            let pattern = pattern.unwrap_or_default();
            // To YAML a bare 0, which is a duration too, is a number.
            json!({"description": rule, "anyOf": [{"type": "string", "pattern": pattern}, {"const": 0}]})
        }
        // A value that nothing is known of may be anything.
        None => json!(true),
    }
}

fn or_variable(schema: &Value) -> Value {
    json!({"anyOf": [schema, {"type": "string", "pattern": VARIABLE}]})
}

/// The rule of a value's syntax, and the value's path.
#[derive(Debug)]
struct Fault {
    path: String,
    rule: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rule)
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(rule: T) -> Self {
        Self { path: String::new(), rule: rule.to_string() }
    }
}

/// One value, of which it is to be found out what it is.
struct Probe<'n> {
    path: String,
    notes: &'n RefCell<BTreeMap<String, Kind>>,
}

impl Probe<'_> {
    fn note(&self, kind: Kind) {
        self.notes.borrow_mut().entry(self.path.clone()).or_insert(kind);
    }

    /// Reads the value `name` in this one.
    fn within<'de, S: DeserializeSeed<'de>>(&self, name: &str, seed: S) -> Result<S::Value, Fault> {
        let path = format!("{}/{name}", self.path);
        let fault_at = path.clone();
        seed.deserialize(Probe { path, notes: self.notes }).map_err(|fault| {
            if fault.path.is_empty() { Fault { path: fault_at, rule: fault.rule } } else { fault }
        })
    }

    fn has_syntax(&self, name: &str) -> bool {
        matches!(self.notes.borrow().get(&format!("{}/{name}", self.path)), Some(Kind::Syntax(_)))
    }

    fn names<'de, V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_map(Names { probe: self, rest: names.iter(), next: "" })
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fault> {
        Err(de::Error::custom("must have a kind that can be told beforehand"))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.note(Kind::Boolean);
        visitor.visit_bool(false)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.note(Kind::Whole { most: u32::MAX.into() });
        visitor.visit_u32(0)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // The largest that every JSON reader takes for what it is.
        self.note(Kind::Whole { most: (1 << 53) - 1 });
        visitor.visit_u64(0)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.note(Kind::Number);
        visitor.visit_f64(0.0)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.note(Kind::Text);
        visitor.visit_str(MADE_UP)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        choices: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.note(Kind::Choice(choices));
        visitor.visit_enum(StrDeserializer::new(choices.first().copied().unwrap_or_default()))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.note(Kind::List);
        visitor.visit_seq(Names { probe: self, rest: ["*"].iter(), next: "" })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.note(Kind::Names);
        self.names(&["*"], visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        keys: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.note(Kind::Keys(keys));
        self.names(keys, visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// The values of a collection. Those whose syntax is known are passed over: each has its default.
struct Names<'n> {
    probe: Probe<'n>,
    rest: std::slice::Iter<'static, &'static str>,
    next: &'static str,
}

impl Names<'_> {
    fn advance(&mut self) -> Option<&'static str> {
        self.next = self.rest.find(|name| !self.probe.has_syntax(name))?;
        Some(self.next)
    }
}

impl<'de> de::MapAccess<'de> for Names<'_> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(name) = self.advance() else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        self.probe.within(self.next, seed)
    }
}

impl<'de> de::SeqAccess<'de> for Names<'_> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(name) = self.advance() else { return Ok(None) };
        self.probe.within(name, seed).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'s>(schema: &'s Value, path: &str) -> &'s Value {
        schema.pointer(path).unwrap_or_else(|| panic!("{path} in {schema:#}"))
    }

    #[test]
    fn every_value_has_a_kind_and_no_object_takes_other_keys() {
        fn check(schema: &Value, path: &str) {
            assert_ne!(schema, &json!(true), "nothing is known of {path}");
            assert_ne!(schema.get("pattern"), Some(&json!("")), "no pattern for {path}");
            if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
                assert_eq!(schema["additionalProperties"], json!(false), "{path}");
                properties.iter().for_each(|(key, schema)| check(schema, &format!("{path}.{key}")));
            }
            for inner in ["items", "additionalProperties"].iter().filter_map(|key| schema.get(key)) {
                if inner != &json!(false) {
                    check(inner, &format!("{path}[]"));
                }
            }
            for choice in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
                check(choice, path);
            }
        }
        check(&schema(), "");
    }

    #[test]
    fn keys_choices_and_rules_are_those_of_the_types() {
        let schema = schema();
        let wait = "/properties/assemble/properties/decision_wait";
        assert_eq!(at(&schema, &format!("{wait}/description")), "must be a duration such as 10s");
        let route = "/properties/slow/properties/routes/items/properties";
        assert_eq!(at(&schema, &format!("{route}/ignore/anyOf/0/type")), "boolean");
        assert!(at(&schema, &format!("{route}/threshold/anyOf/0/pattern")).is_string());
        let protocol = "/properties/export/properties/protocol/anyOf/0/enum";
        assert_eq!(at(&schema, protocol), &json!(["grpc", "http/protobuf"]));
        let headers = "/properties/export/properties/headers/additionalProperties/type/0";
        assert_eq!(at(&schema, headers), "string");
        let attributes = "/properties/enrich/properties/attributes/items/anyOf/0/enum/0";
        assert_eq!(at(&schema, attributes), "service");
        assert_eq!(
            at(&schema, "/properties/memory_limit/description"),
            "must be auto, a size such as 512MiB, or a share of the cgroup's limit such as 80%"
        );
    }
}
