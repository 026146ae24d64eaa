//! JSON objects read field by field into the message that they stand for.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::super::span::MAX_ATTRIBUTE_DEPTH;
use super::scalar;

/// A message that can be read from a JSON object.
pub(super) trait Message<'de>: Default {
    /// Takes the field `key` from `entry`; an unknown one must be ignored.
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error>;
}

/// Reads one message from `text` and nothing behind it; `None` for `null`.
pub(super) fn read<'de, M: Message<'de>>(text: &'de str) -> Result<Option<M>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(text);
    // Only values of attributes recurse, and `Entry::deeper` counts them; its own limit of 128 objects and
    // lists would refuse what we must take.
    json.disable_recursion_limit();
    let message = Read::new(0).deserialize(&mut json)?;
    json.end()?;
    Ok(message)
}

/// The value of one field, not read yet.
pub(super) struct Entry<'e, A> {
    map: &'e mut A,
    key: &'e str,
    depth: usize,
}

impl<'de, A: MapAccess<'de>> Entry<'_, A> {
    /// Skips it, at any depth without recursion.
    pub(super) fn ignore(self) -> Result<(), A::Error> {
        self.map.next_value::<IgnoredAny>().map(drop)
    }

    /// Its text; `None` for `null`.
    pub(super) fn raw(self) -> Result<Option<&'de str>, A::Error> {
        let raw = self.map.next_value::<&'de RawValue>()?.get();
        Ok((raw != "null").then_some(raw))
    }

    /// The texts of a list's elements; `null` is an empty list.
    pub(super) fn raw_list(self) -> Result<Vec<&'de RawValue>, A::Error> {
        let key = self.key;
        let list: Result<Option<_>, _> = self.map.next_value();
        Ok(list.map_err(|error| within(key, &error))?.unwrap_or_default())
    }

    /// A message; `None` for `null`.
    pub(super) fn message<M: Message<'de>>(self) -> Result<Option<M>, A::Error> {
        let key = self.key;
        self.map.next_value_seed(Read::new(self.depth)).map_err(|error| within(key, &error))
    }

    /// A list of messages; `null` is an empty list.
    pub(super) fn list<M: Message<'de>>(self) -> Result<Vec<M>, A::Error> {
        let key = self.key;
        self.map.next_value_seed(List(Read::new(self.depth))).map_err(|error| within(key, &error))
    }

    /// Counts one more array or map around what is read next.
    pub(super) fn deeper(self) -> Result<Self, A::Error> {
        if self.depth == MAX_ATTRIBUTE_DEPTH {
            return Err(Error::custom(super::SpanFault::TooDeep));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }

    /// A string; `None` for `null`.
    pub(super) fn text(self) -> Result<Option<String>, A::Error> {
        self.scalar(scalar::text)
    }

    /// A list of strings; `null` is an empty list.
    pub(super) fn texts(self) -> Result<Vec<String>, A::Error> {
        let key = self.key;
        let texts: Result<Option<_>, _> = self.map.next_value();
        Ok(texts.map_err(|error| within(key, &error))?.unwrap_or_default())
    }

    /// A scalar that `parse` takes from its JSON text, or refuses with the rule that it breaks; `None` for
    /// `null`.
    pub(super) fn scalar<T>(
        self,
        parse: impl FnOnce(&str) -> Result<T, scalar::Rule>,
    ) -> Result<Option<T>, A::Error> {
        let key = self.key;
        let Some(raw) = self.raw()? else { return Ok(None) };
        match parse(raw) {
            Ok(value) => Ok(Some(value)),
            Err(rule) => Err(Error::custom(format_args!("{key}: {rule}, got {}", scalar::shortened(raw)))),
        }
    }
}

fn within<E: Error>(key: &str, error: &E) -> E {
    E::custom(format_args!("{key}: {error}"))
}

/// Reads `Option<M>`, `null` being `None`.
struct Read<M> {
    depth: usize,
    message: PhantomData<M>,
}

impl<M> Read<M> {
    fn new(depth: usize) -> Self {
        Self { depth, message: PhantomData }
    }
}

impl<'de, M: Message<'de>> DeserializeSeed<'de> for Read<M> {
    type Value = Option<M>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<M>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, M: Message<'de>> Visitor<'de> for Read<M> {
    type Value = Option<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<Option<M>, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<M>, A::Error> {
        let mut message = M::default();
        while let Some(key) = map.next_key_seed(Key)? {
            message.set(&key, Entry { map: &mut map, key: &key, depth: self.depth })?;
        }
        Ok(Some(message))
    }
}

/// Reads `Vec<M>`, `null` being empty.
struct List<M>(Read<M>);

impl<'de, M: Message<'de>> DeserializeSeed<'de> for List<M> {
    type Value = Vec<M>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Vec<M>, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de, M: Message<'de>> Visitor<'de> for List<M> {
    type Value = Vec<M>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_unit<E>(self) -> Result<Vec<M>, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<M>, A::Error> {
        let mut messages = Vec::new();
        while let Some(message) = list.next_element_seed(Read::new(self.0.depth))? {
            messages.push(message.unwrap_or_default());
        }
        Ok(messages)
    }
}

/// Reads a key, borrowed unless it has escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Cow<'de, str>, D::Error> {
        json.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}
