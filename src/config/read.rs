//! Makes the typed configuration from a located tree, with every mistake that the types tell.
//!
//! serde stops at the first mistake. Every key of ours has a default, so the mistake is noted, its value left out,
//! and the tree read again, until nothing is left to say: what serde knows of the structs is the only
//! schema there is.

use std::fmt::Display;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Visitor, value::StrDeserializer};

use super::problem::{Problem, nearest};
use super::tree::{Content, Id, Tree};

/// After so many mistakes the rest is not worth reading.
const MAX_PROBLEMS: usize = 100;

/// The configuration in `tree`, or as much of it as is right, and what is wrong. Wrong values are left out of `tree`.
pub(super) fn read<T: DeserializeOwned + Default>(tree: &mut Tree) -> (T, Vec<Problem>) {
    let mut problems = Vec::new();
    loop {
        let fault = match T::deserialize(Source { tree, id: Tree::ROOT }) {
            Ok(value) => return (value, problems),
            Err(fault) => fault,
        };
        let at = fault.at.unwrap_or(Tree::ROOT);
        problems.push(fault.explain(tree, at));
        if !tree.leave_out(at) || at == Tree::ROOT || problems.len() == MAX_PROBLEMS {
            return (T::default(), problems);
        }
    }
}

/// What one value breaks.
#[derive(Debug)]
struct Fault {
    breach: Breach,
    at: Option<Id>,
}

#[derive(Debug)]
enum Breach {
    Rule(String),
    UnknownKey(&'static [&'static str]),
    UnknownChoice(String, &'static [&'static str]),
}

impl Fault {
    fn rule(rule: impl Into<String>) -> Self {
        Self { breach: Breach::Rule(rule.into()), at: None }
    }

    /// The same fault, of the value `id` unless a value in it has it.
    fn of(mut self, id: Id) -> Self {
        self.at.get_or_insert(id);
        self
    }

    fn explain(self, tree: &Tree, at: Id) -> Problem {
        match self.breach {
            Breach::Rule(rule) => tree.problem(at, rule),
            Breach::UnknownKey(known) => tree.unknown_key(at, known),
            Breach::UnknownChoice(given, known) => {
                let problem = tree.problem(at, format!("must be one of {}", known.join(", ")));
                Problem { did_you_mean: nearest(&given, known).map(str::to_owned), ..problem }
            }
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.breach {
            Breach::Rule(rule) => f.write_str(rule),
            Breach::UnknownKey(known) | Breach::UnknownChoice(_, known) => {
                write!(f, "must be one of {}", known.join(", "))
            }
        }
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: Display>(rule: T) -> Self {
        Self::rule(rule.to_string())
    }

    fn invalid_type(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::rule(format!("must be {expected}"))
    }

    fn invalid_value(_: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::rule(format!("must be {expected}"))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        Self { breach: Breach::UnknownKey(expected), at: None }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self { breach: Breach::UnknownChoice(variant.to_owned(), expected), at: None }
    }
}

/// One value of the tree, as serde wants it.
#[derive(Clone, Copy)]
struct Source<'t> {
    tree: &'t Tree,
    id: Id,
}

impl<'t> Source<'t> {
    fn content(self) -> &'t Content {
        self.tree.content(self.id)
    }

    /// Its text, unless it is a collection or `null`. Nothing at all is the empty text.
    fn text(self) -> Option<&'t str> {
        match self.content() {
            Content::Scalar { text, .. } if text.is_empty() || !self.content().is_null() => Some(text),
            _ => None,
        }
    }

    /// Its value as YAML understands a plain scalar; what stands in quotes is text and nothing else.
    fn plain<T: DeserializeOwned>(self, rule: &str) -> Result<T, Fault> {
        let Content::Scalar { text, plain: true } = self.content() else { return Err(Fault::rule(rule)) };
        serde_yaml::from_str(text).map_err(|_| Fault::rule(rule))
    }
}

impl<'de> de::Deserializer<'de> for Source<'_> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.content() {
            Content::Scalar { .. } => self.deserialize_str(visitor),
            Content::List(_) => self.deserialize_seq(visitor),
            Content::Mapping(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_bool(self.plain("must be true or false")?)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u32(self.plain("must be a whole number from 0 to 4294967295")?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_u64(self.plain("must be a whole number from 0 to 18446744073709551615")?)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let rule = "must be a number";
        let number: f64 = self.plain(rule)?;
        if number.is_finite() { visitor.visit_f64(number) } else { Err(Fault::rule(rule)) }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_str(self.text().ok_or_else(|| Fault::rule("must be text"))?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if self.content().is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        choices: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match self.text() {
            Some(text) => visitor.visit_enum(StrDeserializer::new(text)),
            None => Err(Fault { breach: Breach::UnknownChoice(String::new(), choices), at: None }),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        if !matches!(self.content(), Content::List(_)) && !self.content().is_null() {
            return Err(Fault::rule("must be a list"));
        }
        visitor.visit_seq(Children { tree: self.tree, rest: self.tree.children(self.id), value: None })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        // A key with all of its children commented out has its defaults.
        if !matches!(self.content(), Content::Mapping(_)) && !self.content().is_null() {
            return Err(Fault::rule("must be a mapping"));
        }
        visitor.visit_map(Children { tree: self.tree, rest: self.tree.children(self.id), value: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_map(visitor)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u128 f32 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct identifier ignored_any
    }
}

/// The values of a collection, one after the other.
struct Children<'t, I> {
    tree: &'t Tree,
    rest: I,
    /// The one whose key was asked for last.
    value: Option<Id>,
}

impl<'de, I: Iterator<Item = Id>> de::SeqAccess<'de> for Children<'_, I> {
    type Error = Fault;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(id) = self.rest.next() else { return Ok(None) };
        seed.deserialize(Source { tree: self.tree, id }).map(Some).map_err(|fault| fault.of(id))
    }
}

impl<'de, I: Iterator<Item = Id>> de::MapAccess<'de> for Children<'_, I> {
    type Error = Fault;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Fault> {
        let Some(id) = self.rest.next() else { return Ok(None) };
        self.value = Some(id);
        seed.deserialize(StrDeserializer::new(self.tree.key(id)))
            .map(Some)
            .map_err(|fault: Fault| fault.of(id))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Fault> {
        let id = self.value.ok_or_else(|| Fault::rule("must have a key"))?;
        seed.deserialize(Source { tree: self.tree, id }).map_err(|fault| fault.of(id))
    }
}
