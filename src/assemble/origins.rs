//! What encloses spans, kept once: the resource and scope of a span are a number in its record.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::otlp::batch::service_name;

/// One resource and scope, as they stood around spans.
#[derive(Debug)]
pub(super) struct Origin {
    /// A `ResourceSpans` without scopes, then a `ScopeSpans` without spans.
    content: Box<[u8]>,
    resource_length: usize,
    /// `service.name`, empty where the resource has none.
    service: Box<[u8]>,
    hash: u64,
    references: u32,
    /// The last segment that took a reference.
    seen_in: u64,
}

impl Origin {
    pub(super) fn resource(&self) -> &[u8] {
        self.content.get(..self.resource_length).unwrap_or(&[])
    }

    pub(super) fn scope(&self) -> &[u8] {
        self.content.get(self.resource_length..).unwrap_or(&[])
    }

    pub(super) fn service(&self) -> &[u8] {
        &self.service
    }

    fn size(&self) -> u64 {
        (self.content.len() + self.service.len()) as u64
    }
}

/// The origins of one shard. Each lives as long as a segment refers to it.
#[derive(Debug, Default)]
pub(super) struct Origins {
    table: HashTable<u32>,
    origins: Vec<Option<Origin>>,
    vacant: Vec<u32>,
    bytes: u64,
}

impl Origins {
    /// The hash under which a resource and scope are found; the same for all shards of one `hasher`.
    pub(super) fn hash(hasher: &impl BuildHasher, resource: &[u8], scope: &[u8]) -> u64 {
        hasher.hash_one((resource, scope))
    }

    /// The number of a resource and scope; a new one has no references yet.
    pub(super) fn intern(&mut self, hash: u64, resource: &[u8], scope: &[u8]) -> u32 {
        let origins = &self.origins;
        let same = |number: &u32| {
            origins
                .get(*number as usize)
                .and_then(Option::as_ref)
                .is_some_and(|found| found.resource() == resource && found.scope() == scope)
        };
        if let Some(number) = self.table.find(hash, same) {
            return *number;
        }
        let origin = Origin {
            content: [resource, scope].concat().into(),
            resource_length: resource.len(),
            service: service_name(resource).into(),
            hash,
            references: 0,
            seen_in: 0,
        };
        self.bytes += origin.size();
        let number = self.vacant.pop().unwrap_or_else(|| {
            self.origins.push(None);
            u32::try_from(self.origins.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(place) = self.origins.get_mut(number as usize) {
            *place = Some(origin);
        }
        let origins = &self.origins;
        self.table.insert_unique(hash, number, |number| hash_of(origins, *number));
        number
    }

    /// Whether the segment with this sequence number has to take a reference; if so, it is counted.
    #[inline]
    pub(super) fn is_new_to(&mut self, number: u32, sequence: u64) -> bool {
        let Some(Some(origin)) = self.origins.get_mut(number as usize) else { return false };
        if origin.seen_in == sequence {
            return false;
        }
        origin.seen_in = sequence;
        origin.references += 1;
        true
    }

    /// Gives one reference back; the last one frees the origin.
    pub(super) fn release(&mut self, number: u32) {
        let Some(place) = self.origins.get_mut(number as usize) else { return };
        let Some(origin) = place else { return };
        origin.references = origin.references.saturating_sub(1);
        if origin.references > 0 {
            return;
        }
        self.bytes -= origin.size();
        if let Ok(entry) = self.table.find_entry(origin.hash, |other| *other == number) {
            entry.remove();
        }
        *place = None;
        self.vacant.push(number);
    }

    /// The origin with this number.
    pub(super) fn get(&self, number: u32) -> Option<&Origin> {
        self.origins.get(number as usize)?.as_ref()
    }

    /// Gives back what many origins at once have grown. Numbers do not move, so the places behind the last one in use
    /// can go.
    pub(super) fn tidy(&mut self) {
        if self.table.len() * 4 >= self.origins.capacity() {
            return;
        }
        while self.origins.last().is_some_and(Option::is_none) {
            self.origins.pop();
        }
        let used = self.origins.len();
        self.vacant.retain(|place| (*place as usize) < used);
        if used * 2 >= self.origins.capacity() {
            return;
        }
        self.origins.shrink_to(used);
        self.vacant.shrink_to(used);
        let origins = &self.origins;
        self.table.shrink_to(self.table.len() * 2, |number| hash_of(origins, *number));
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> u64 {
        let places = self.origins.capacity() * size_of::<Option<Origin>>()
            + self.vacant.capacity() * size_of::<u32>()
            + self.table.allocation_size();
        self.bytes + places as u64
    }
}

fn hash_of(origins: &[Option<Origin>], number: u32) -> u64 {
    origins.get(number as usize).and_then(Option::as_ref).map_or(0, |origin| origin.hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::wire::put_bytes;

    fn resource(service: &[u8]) -> Vec<u8> {
        let mut value = Vec::new();
        put_bytes(&mut value, 1, service);
        let mut key_value = Vec::new();
        put_bytes(&mut key_value, 1, b"service.name");
        put_bytes(&mut key_value, 2, &value);
        let mut resource = Vec::new();
        put_bytes(&mut resource, 1, &key_value);
        let mut resource_spans = Vec::new();
        put_bytes(&mut resource_spans, 1, &resource);
        resource_spans
    }

    #[test]
    fn the_same_bytes_have_one_number_and_the_last_reference_frees_it() {
        let mut origins = Origins::default();
        let cart = resource(b"cart");
        let first = origins.intern(7, &cart, b"scope");
        assert_eq!(origins.intern(7, &cart, b"scope"), first);
        assert_ne!(origins.intern(7, &cart, b"other"), first, "equal hashes are told apart by their bytes");
        assert_eq!(origins.get(first).map(Origin::service), Some(&b"cart"[..]));

        assert!(origins.is_new_to(first, 1));
        assert!(!origins.is_new_to(first, 1));
        assert!(origins.is_new_to(first, 2));
        origins.release(first);
        assert!(origins.get(first).is_some());
        origins.release(first);
        assert!(origins.get(first).is_none());
    }

    #[test]
    fn what_many_origins_have_taken_is_given_back() {
        let mut origins = Origins::default();
        let last = (0..10_000_u32)
            .map(|number| {
                let number = origins.intern(u64::from(number) << 50, &number.to_be_bytes(), b"");
                origins.is_new_to(number, 1);
                number
            })
            .last();
        assert!(origins.allocated() > 10_000 * size_of::<Option<Origin>>() as u64);
        (0..9_999).for_each(|number| origins.release(number));
        origins.tidy();
        assert_eq!(
            last.and_then(|last| origins.get(last)).map(Origin::resource),
            Some(&9_999_u32.to_be_bytes()[..])
        );
        assert_eq!(origins.intern(7, b"fresh", b""), 9_998, "vacant places are used again");
        origins.release(9_999);
        origins.is_new_to(9_998, 1);
        origins.release(9_998);
        origins.tidy();
        assert!(origins.allocated() < 200, "{}", origins.allocated());
    }
}
