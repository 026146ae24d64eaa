//! Span bytes on append-only segments.
//!
//! A span is copied once, behind a header that links it to the span of its trace that came before. A segment is
//! freed whole once none of its traces is held any more. Early decisions leave holes; segments that have become
//! mostly holes are emptied by moving what is left (see `Shard::compact`), so that what is allocated stays within
//! a fixed ratio of what is held.

/// Bytes of one segment: small enough that one per shard costs little, large enough that a segment holds
/// hundreds of spans.
pub(super) const SEGMENT_SIZE: usize = 256 << 10;

/// `previous`, `slot`, `origin`, `length`: 8 + 8 + 4 + 4 bytes.
pub(super) const HEADER_SIZE: usize = 24;

/// Emptied segments kept for the next spans; the rest goes back to the allocator.
const SPARE_SEGMENTS: usize = 4;

/// So many places for references on origins stay with a segment that is emptied.
const KEEP_REFERENCES: usize = 64;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) segment: u32,
    pub(super) offset: u32,
}

impl Address {
    /// Before the first record of a trace.
    pub(super) const NONE: Self = Self { segment: u32::MAX, offset: u32::MAX };
}

/// Which trace a record belongs to: a slot, and the generation of that slot's use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotRef {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// One span as it lies in a segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) previous: Address,
    pub(super) slot: SlotRef,
    pub(super) origin: u32,
    pub(super) body: &'a [u8],
}

impl Record<'_> {
    /// Bytes in the segment.
    pub(super) fn size(&self) -> u32 {
        record_size(self.body)
    }
}

/// Bytes that `body` takes in a segment. Requests end below 4 GiB, so the sum fits.
pub(super) fn record_size(body: &[u8]) -> u32 {
    u32::try_from(HEADER_SIZE + body.len()).unwrap_or(u32::MAX)
}

#[derive(Debug, Default)]
struct Segment {
    bytes: Vec<u8>,
    /// Bytes of records whose traces are held.
    live: u32,
    /// One entry for each reference that this segment holds on an origin.
    origins: Vec<u32>,
    /// Counts segments up, over reuse; tells an origin whether it is already referenced from here.
    sequence: u64,
}

/// All segments of one shard.
#[derive(Debug)]
pub(super) struct Segments {
    segments: Vec<Segment>,
    /// Places in `segments` without bytes.
    vacant: Vec<u32>,
    spare: Vec<Vec<u8>>,
    /// The segment that takes the next record.
    open: Option<u32>,
    /// Segments that were full and already without held records when the next one was opened.
    finished: Vec<u32>,
    next_sequence: u64,
    /// Places for references on origins, in all segments.
    referring: usize,
    /// Bytes of the segments.
    allocated: u64,
    live: u64,
}

impl Default for Segments {
    fn default() -> Self {
        Self {
            segments: Vec::new(),
            vacant: Vec::new(),
            spare: Vec::new(),
            open: None,
            finished: Vec::new(),
            next_sequence: 1,
            referring: 0,
            allocated: 0,
            live: 0,
        }
    }
}

impl Segments {
    /// Copies a record in. The caller must then call [`Segments::refer`] for its origin.
    #[inline]
    pub(super) fn append(&mut self, record: Record<'_>) -> Address {
        let size = record.size() as usize;
        let place = self.place_for(size);
        let Some(segment) = self.segments.get_mut(place as usize) else { return Address::NONE };
        let offset = u32::try_from(segment.bytes.len()).unwrap_or(u32::MAX);
        let mut header = [0; HEADER_SIZE];
        let fields = [
            record.previous.segment,
            record.previous.offset,
            record.slot.index,
            record.slot.generation,
            record.origin,
            u32::try_from(record.body.len()).unwrap_or(u32::MAX),
        ];
        for (to, from) in header.chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&from.to_le_bytes());
        }
        segment.bytes.extend_from_slice(&header);
        segment.bytes.extend_from_slice(record.body);
        segment.live += record.size();
        self.live += size as u64;
        Address { segment: place, offset }
    }

    /// The record at `address`.
    #[inline]
    pub(super) fn record(&self, address: Address) -> Option<Record<'_>> {
        self.record_in(self.segments.get(address.segment as usize)?, address.offset)
    }

    #[inline]
    #[allow(clippy::unused_self, reason = "keeps the borrow of the record tied to the segments")]
    fn record_in<'a>(&'a self, segment: &'a Segment, offset: u32) -> Option<Record<'a>> {
        let (header, rest) = segment.bytes.get(offset as usize..)?.split_first_chunk::<HEADER_SIZE>()?;
        let mut fields = [0_u32; HEADER_SIZE / 4];
        for (field, bytes) in fields.iter_mut().zip(header.as_chunks::<4>().0) {
            *field = u32::from_le_bytes(*bytes);
        }
        let [previous_segment, previous_offset, index, generation, origin, length] = fields;
        Some(Record {
            previous: Address { segment: previous_segment, offset: previous_offset },
            slot: SlotRef { index, generation },
            origin,
            body: rest.get(..length as usize)?,
        })
    }

    /// The record behind `offset` in a segment, and where the next one starts.
    pub(super) fn walk(&self, segment: u32, offset: u32) -> Option<(Record<'_>, u32)> {
        let record = self.record_in(self.segments.get(segment as usize)?, offset)?;
        Some((record, offset.checked_add(record.size())?))
    }

    /// The segment's sequence number, for [`Segments::refer`].
    #[inline]
    pub(super) fn sequence(&self, segment: u32) -> u64 {
        self.segments.get(segment as usize).map_or(0, |segment| segment.sequence)
    }

    /// Notes that `segment` holds one reference on `origin`.
    pub(super) fn refer(&mut self, segment: u32, origin: u32) {
        if let Some(segment) = self.segments.get_mut(segment as usize) {
            let before = segment.origins.capacity();
            segment.origins.push(origin);
            self.referring += segment.origins.capacity() - before;
        }
    }

    /// Says that `size` bytes of `segment` are held no more. A segment without any is emptied, and `release` is
    /// called for each reference it held on an origin.
    #[inline]
    pub(super) fn forget(&mut self, segment: u32, size: u32, release: &mut impl FnMut(u32)) {
        let Some(found) = self.segments.get_mut(segment as usize) else { return };
        debug_assert!(found.live >= size, "a record is forgotten once");
        found.live = found.live.saturating_sub(size);
        self.live = self.live.saturating_sub(u64::from(size));
        if found.live == 0 && self.open != Some(segment) {
            self.empty(segment, release);
        }
    }

    /// Empties segments that nobody's forgetting will empty any more.
    pub(super) fn sweep(&mut self, release: &mut impl FnMut(u32)) {
        while let Some(segment) = self.finished.pop() {
            self.empty(segment, release);
        }
    }

    /// Closes the open segment, so that an idle shard keeps nothing.
    pub(super) fn close(&mut self, release: &mut impl FnMut(u32)) {
        if let Some(open) = self.open.take()
            && self.segments.get(open as usize).is_some_and(|segment| segment.live == 0)
        {
            self.empty(open, release);
        }
        for spare in self.spare.drain(..) {
            self.allocated -= spare.capacity() as u64;
        }
    }

    /// Closed segments of which more than half is holes, while holes take more than a quarter of all bytes.
    pub(super) fn sparse(&self) -> Vec<u32> {
        let in_use = self.allocated.saturating_sub((self.spare.len() * SEGMENT_SIZE) as u64);
        if (in_use.saturating_sub(self.live)) * 4 <= in_use || in_use <= 4 * SEGMENT_SIZE as u64 {
            return Vec::new();
        }
        (0_u32..)
            .zip(&self.segments)
            .filter(|(place, segment)| {
                Some(*place) != self.open
                    && segment.live > 0
                    && (segment.live as usize) * 2 < segment.bytes.len()
            })
            .map(|(place, _)| place)
            .collect()
    }

    /// Bytes taken from the allocator.
    pub(super) fn allocated(&self) -> u64 {
        let tables = self.segments.capacity() * size_of::<Segment>()
            + (self.vacant.capacity() + self.finished.capacity() + self.referring) * size_of::<u32>()
            + self.spare.capacity() * size_of::<Vec<u8>>();
        self.allocated + tables as u64
    }

    #[inline]
    fn place_for(&mut self, size: usize) -> u32 {
        if let Some(open) = self.open
            && let Some(segment) = self.segments.get(open as usize)
            && segment.bytes.capacity() - segment.bytes.len() >= size
        {
            return open;
        }
        self.new_segment(size)
    }

    /// A span larger than a segment gets one of its own, and the open one stays open.
    fn new_segment(&mut self, size: usize) -> u32 {
        let bytes = match self.spare.pop() {
            Some(bytes) if size <= SEGMENT_SIZE => bytes,
            spare => {
                self.spare.extend(spare);
                let capacity = size.max(SEGMENT_SIZE);
                self.allocated += capacity as u64;
                Vec::with_capacity(capacity)
            }
        };
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let place = self.vacant.pop().unwrap_or_else(|| {
            self.segments.push(Segment::default());
            u32::try_from(self.segments.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(segment) = self.segments.get_mut(place as usize) {
            segment.bytes = bytes;
            segment.sequence = sequence;
        }
        if size <= SEGMENT_SIZE
            && let Some(full) = self.open.replace(place)
            && self.segments.get(full as usize).is_some_and(|segment| segment.live == 0)
        {
            self.finished.push(full);
        }
        place
    }

    fn empty(&mut self, place: u32, release: &mut impl FnMut(u32)) {
        let Some(segment) = self.segments.get_mut(place as usize) else { return };
        let mut bytes = std::mem::take(&mut segment.bytes);
        segment.origins.drain(..).for_each(release);
        if segment.origins.capacity() > KEEP_REFERENCES {
            self.referring -= segment.origins.capacity();
            segment.origins = Vec::new();
        }
        if bytes.capacity() == SEGMENT_SIZE && self.spare.len() < SPARE_SEGMENTS {
            bytes.clear();
            self.spare.push(bytes);
        } else {
            self.allocated -= bytes.capacity() as u64;
        }
        self.vacant.push(place);
    }
}
