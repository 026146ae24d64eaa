//! A vector that is only read with indices made by the code that filled it.

use std::ops::{Index, IndexMut};

/// One value for each node of a tree, by node number.
#[derive(Clone, Debug)]
pub(crate) struct Column<T>(Vec<T>);

impl<T> Column<T> {
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// The same value for `length` nodes.
    pub(crate) fn filled(value: T, length: usize) -> Self
    where
        T: Clone,
    {
        Self(vec![value; length])
    }

    /// Appends a value and returns its number.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        let number = self.length();
        self.0.push(value);
        number
    }

    /// How many there are; traces have fewer than 2^32 spans.
    pub(crate) fn length(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        &self.0
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<T> Default for Column<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> From<Vec<T>> for Column<T> {
    fn from(values: Vec<T>) -> Self {
        Self(values)
    }
}

impl<T> Index<u32> for Column<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        self.0.get(number as usize).expect("numbers come from the tree that this column belongs to")
    }
}

impl<T> IndexMut<u32> for Column<T> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.0.get_mut(number as usize).expect("numbers come from the tree that this column belongs to")
    }
}
