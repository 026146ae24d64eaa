//! Which JSON field is which field of the messages; names in both spellings, as senders use both.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde::de::MapAccess;

use super::object::{Entry, Message};
use super::scalar;

impl<'de> Message<'de> for Span {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "traceId" | "trace_id" => self.trace_id = entry.scalar(scalar::id)?.unwrap_or_default(),
            "spanId" | "span_id" => self.span_id = entry.scalar(scalar::id)?.unwrap_or_default(),
            "traceState" | "trace_state" => self.trace_state = entry.text()?.unwrap_or_default(),
            "parentSpanId" | "parent_span_id" => {
                self.parent_span_id = entry.scalar(scalar::id)?.unwrap_or_default();
            }
            "flags" => self.flags = entry.scalar(scalar::unsigned32)?.unwrap_or_default(),
            "name" => self.name = entry.text()?.unwrap_or_default(),
            "kind" => {
                let name = |name: &str| SpanKind::from_str_name(name).map(|kind| kind as i32);
                self.kind = entry.scalar(|raw| scalar::enumeration(raw, name))?.unwrap_or_default();
            }
            "startTimeUnixNano" | "start_time_unix_nano" => {
                self.start_time_unix_nano = entry.scalar(scalar::unsigned64)?.unwrap_or_default();
            }
            "endTimeUnixNano" | "end_time_unix_nano" => {
                self.end_time_unix_nano = entry.scalar(scalar::unsigned64)?.unwrap_or_default();
            }
            "attributes" => self.attributes = entry.list()?,
            "droppedAttributesCount" | "dropped_attributes_count" => {
                self.dropped_attributes_count = entry.scalar(scalar::unsigned32)?.unwrap_or_default();
            }
            "events" => self.events = entry.list()?,
            "droppedEventsCount" | "dropped_events_count" => {
                self.dropped_events_count = entry.scalar(scalar::unsigned32)?.unwrap_or_default();
            }
            "links" => self.links = entry.list()?,
            "droppedLinksCount" | "dropped_links_count" => {
                self.dropped_links_count = entry.scalar(scalar::unsigned32)?.unwrap_or_default();
            }
            "status" => self.status = entry.message()?,
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for Event {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "timeUnixNano" | "time_unix_nano" => {
                self.time_unix_nano = entry.scalar(scalar::unsigned64)?.unwrap_or_default();
            }
            "name" => self.name = entry.text()?.unwrap_or_default(),
            "attributes" => self.attributes = entry.list()?,
            "droppedAttributesCount" | "dropped_attributes_count" => {
                self.dropped_attributes_count = entry.scalar(scalar::unsigned32)?.unwrap_or_default();
            }
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for Link {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "traceId" | "trace_id" => self.trace_id = entry.scalar(scalar::id)?.unwrap_or_default(),
            "spanId" | "span_id" => self.span_id = entry.scalar(scalar::id)?.unwrap_or_default(),
            "traceState" | "trace_state" => self.trace_state = entry.text()?.unwrap_or_default(),
            "attributes" => self.attributes = entry.list()?,
            "droppedAttributesCount" | "dropped_attributes_count" => {
                self.dropped_attributes_count = entry.scalar(scalar::unsigned32)?.unwrap_or_default();
            }
            "flags" => self.flags = entry.scalar(scalar::unsigned32)?.unwrap_or_default(),
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for Status {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "message" => self.message = entry.text()?.unwrap_or_default(),
            "code" => {
                let name = |name: &str| StatusCode::from_str_name(name).map(|code| code as i32);
                self.code = entry.scalar(|raw| scalar::enumeration(raw, name))?.unwrap_or_default();
            }
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for Resource {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "attributes" => self.attributes = entry.list()?,
            "droppedAttributesCount" | "dropped_attributes_count" => {
                self.dropped_attributes_count = entry.scalar(scalar::unsigned32)?.unwrap_or_default();
            }
            "entityRefs" | "entity_refs" => self.entity_refs = entry.list()?,
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for EntityRef {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "schemaUrl" | "schema_url" => self.schema_url = entry.text()?.unwrap_or_default(),
            "type" => self.r#type = entry.text()?.unwrap_or_default(),
            "idKeys" | "id_keys" => self.id_keys = entry.texts()?,
            "descriptionKeys" | "description_keys" => self.description_keys = entry.texts()?,
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for InstrumentationScope {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "name" => self.name = entry.text()?.unwrap_or_default(),
            "version" => self.version = entry.text()?.unwrap_or_default(),
            "attributes" => self.attributes = entry.list()?,
            "droppedAttributesCount" | "dropped_attributes_count" => {
                self.dropped_attributes_count = entry.scalar(scalar::unsigned32)?.unwrap_or_default();
            }
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for KeyValue {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "key" => self.key = entry.text()?.unwrap_or_default(),
            "value" => self.value = entry.message()?,
            "keyStrindex" | "key_strindex" => {
                self.key_strindex = entry.scalar(scalar::signed32)?.unwrap_or_default();
            }
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for AnyValue {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        let value = match key {
            "stringValue" | "string_value" => entry.text()?.map(Value::StringValue),
            "boolValue" | "bool_value" => entry.scalar(scalar::boolean)?.map(Value::BoolValue),
            "intValue" | "int_value" => entry.scalar(scalar::signed64)?.map(Value::IntValue),
            "doubleValue" | "double_value" => entry.scalar(scalar::double)?.map(Value::DoubleValue),
            "arrayValue" | "array_value" => entry.deeper()?.message()?.map(Value::ArrayValue),
            "kvlistValue" | "kvlist_value" => entry.deeper()?.message()?.map(Value::KvlistValue),
            "bytesValue" | "bytes_value" => entry.scalar(scalar::base64)?.map(Value::BytesValue),
            "stringValueStrindex" | "string_value_strindex" => {
                entry.scalar(scalar::signed32)?.map(Value::StringValueStrindex)
            }
            _ => return entry.ignore(),
        };
        // A variant that is null is not set; of several that are, the last one counts.
        if value.is_some() {
            self.value = value;
        }
        Ok(())
    }
}

impl<'de> Message<'de> for ArrayValue {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "values" => self.values = entry.list()?,
            _ => entry.ignore()?,
        }
        Ok(())
    }
}

impl<'de> Message<'de> for KeyValueList {
    fn set<A: MapAccess<'de>>(&mut self, key: &str, entry: Entry<'_, A>) -> Result<(), A::Error> {
        match key {
            "values" => self.values = entry.list()?,
            _ => entry.ignore()?,
        }
        Ok(())
    }
}
