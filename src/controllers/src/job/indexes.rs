//! Sets of completion indexes, as the status writes them: `1,3-5`.

use std::fmt;

/// A set of indexes: ranges in order, apart from each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Indexes(Vec<(u32, u32)>);

impl Indexes {
    /// Reads what a status says; indexes from `end` on are none. What isn't a number is passed over, since nobody but
    /// this controller writes it.
    pub fn parse(text: &str, end: u32) -> Self {
        let mut ranges = vec![];
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
                && first <= last
                && first < end
            {
                ranges.push((first, last.min(end - 1)));
            }
        }
        Self::of(ranges)
    }

    fn of(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(u32, u32)> = vec![];
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined)
    }

    /// Both together.
    pub fn union(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|(first, last)| (last - first) as usize + 1).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one.
    pub fn contains(&self, index: u32) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < index);
        self.0.get(at).is_some_and(|(first, _)| *first <= index)
    }

    /// How many are in both.
    pub fn common(&self, other: &Self) -> usize {
        let overlap = |(first, last): (u32, u32), (from, to): (u32, u32)| {
            let (first, last) = (first.max(from), last.min(to));
            if first <= last { (last - first) as usize + 1 } else { 0 }
        };
        let (mut one, mut two, mut common) = (self.0.iter().peekable(), other.0.iter().peekable(), 0);
        while let (Some(left), Some(right)) = (one.peek(), two.peek()) {
            common += overlap(**left, **right);
            if left.1 <= right.1 {
                one.next();
            } else {
                two.next();
            }
        }
        common
    }

    /// The first `count` indexes below `end` that are not among these. What it costs depends on the number of ranges.
    pub fn missing(&self, count: usize, end: u32) -> Vec<u32> {
        let mut found = vec![];
        let mut next = 0;
        for (first, last) in self.0.iter().copied().chain([(end, end)]) {
            found.extend((next..first.min(end)).take(count - found.len()));
            next = last.saturating_add(1);
            if found.len() == count {
                break;
            }
        }
        found
    }
}

impl FromIterator<u32> for Indexes {
    fn from_iter<I: IntoIterator<Item = u32>>(indexes: I) -> Self {
        Self::of(indexes.into_iter().map(|index| (index, index)).collect())
    }
}

impl fmt::Display for Indexes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_str(",")?;
            }
            match last - first {
                0 => write!(f, "{first}")?,
                1 => write!(f, "{first},{last}")?,
                _ => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_are_written_as_ranges() {
        for (text, end, written, len) in [
            ("", 9, "", 0),
            ("1", 9, "1", 1),
            ("1,2", 9, "1,2", 2),
            ("1,2,3", 9, "1-3", 3),
            ("1,3-5,7", 9, "1,3-5,7", 5),
            ("3-5", 5, "3,4", 2),
            ("1,8", 5, "1", 1),
            ("1,x,5-3,-,4294967296", 9, "1", 1),
            ("0-4294967295", u32::MAX, "0-4294967294", 4_294_967_295),
        ] {
            let indexes = Indexes::parse(text, end);
            assert_eq!(indexes.to_string(), written, "{text}");
            assert_eq!(indexes.len(), len, "{text}");
        }
    }

    proptest! {
        #[test]
        fn they_are_sets(one in prop::collection::btree_set(0_u32..40, 0..30), two in prop::collection::btree_set(0_u32..40, 0..30), count in 0_usize..50) {
            let (left, right): (Indexes, Indexes) = (one.iter().copied().collect(), two.iter().copied().collect());
            prop_assert_eq!(&Indexes::parse(&left.to_string(), 40), &left);
            let both: Indexes = one.union(&two).copied().collect();
            prop_assert_eq!(left.union(&right), both);
            prop_assert_eq!(left.common(&right), one.intersection(&two).count());
            prop_assert_eq!(left.len(), one.len());
            for index in 0..41 {
                prop_assert_eq!(left.contains(index), one.contains(&index));
            }
            let missing: Vec<_> = (0..40).filter(|index| !one.contains(index)).take(count).collect();
            prop_assert_eq!(left.missing(count, 40), missing);
        }

        #[test]
        fn whatever_a_status_says_is_read(text in "[-0-9,x]{0,40}", end in 0_u32..100) {
            let indexes = Indexes::parse(&text, end);
            let all: BTreeSet<u32> = (0..end).filter(|index| indexes.contains(*index)).collect();
            prop_assert_eq!(indexes.len(), all.len());
        }
    }
}
