//! Go's slices, maps and times: values that are null until somebody sets them.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// A list that tells null (Go's nil, the default) from empty; reads as a slice either way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct List<T>(Option<Vec<T>>);

impl<T> List<T> {
    /// Whether the list is null. An empty list is not.
    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }

    /// An empty list that is written `[]`.
    pub fn empty() -> Self {
        Self(Some(Vec::new()))
    }

    /// The elements, none when null.
    pub fn into_vec(self) -> Vec<T> {
        self.0.unwrap_or_default()
    }

    /// The vector behind the list, made when null.
    pub fn get_mut(&mut self) -> &mut Vec<T> {
        self.0.get_or_insert_default()
    }

    /// The elements, to change; a null list stays null.
    pub fn get_mut_if_any(&mut self) -> &mut [T] {
        self.0.as_deref_mut().unwrap_or_default()
    }

    /// The same list, `[]` instead of null.
    #[must_use]
    pub fn or_empty(self) -> Self {
        Self(Some(self.into_vec()))
    }
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Deref for List<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl<T> From<Vec<T>> for List<T> {
    fn from(items: Vec<T>) -> Self {
        Self(Some(items))
    }
}

impl<T> FromIterator<T> for List<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Self(Some(items.into_iter().collect()))
    }
}

impl<T> IntoIterator for List<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<'a, T> IntoIterator for &'a List<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut list: Option<Vec<T>> = Option::deserialize(d)?;
        // Many are kept, mostly with one element: a container may have thousands of published ports.
        list.iter_mut().for_each(Vec::shrink_to_fit);
        Ok(Self(list))
    }
}

/// An object with any member names that tells null (the default) from empty; reads as a map.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct Map<V>(Option<BTreeMap<String, V>>);

impl<V> Map<V> {
    /// Whether the map is null. An empty map is not.
    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }

    /// An empty map that is written `{}`.
    pub fn empty() -> Self {
        Self(Some(BTreeMap::new()))
    }

    /// The members, none when null.
    pub fn into_map(self) -> BTreeMap<String, V> {
        self.0.unwrap_or_default()
    }

    /// The map behind, made when null.
    pub fn get_mut(&mut self) -> &mut BTreeMap<String, V> {
        self.0.get_or_insert_default()
    }

    /// The same map, `{}` instead of null.
    #[must_use]
    pub fn or_empty(self) -> Self {
        Self(Some(self.into_map()))
    }
}

impl<V> Default for Map<V> {
    fn default() -> Self {
        Self(None)
    }
}

/// Holds the map a null [`Map`] reads as.
struct NoMembers<V>(std::marker::PhantomData<V>);
impl<V: 'static> NoMembers<V> {
    const MAP: &'static BTreeMap<String, V> = &BTreeMap::new();
}

impl<V: 'static> Deref for Map<V> {
    type Target = BTreeMap<String, V>;
    fn deref(&self) -> &BTreeMap<String, V> {
        self.0.as_ref().unwrap_or(NoMembers::<V>::MAP)
    }
}

impl<V> From<BTreeMap<String, V>> for Map<V> {
    fn from(members: BTreeMap<String, V>) -> Self {
        Self(Some(members))
    }
}

impl<V> FromIterator<(String, V)> for Map<V> {
    fn from_iter<I: IntoIterator<Item = (String, V)>>(members: I) -> Self {
        Self(Some(members.into_iter().collect()))
    }
}

impl<V> IntoIterator for Map<V> {
    type Item = (String, V);
    type IntoIter = std::collections::btree_map::IntoIter<String, V>;
    fn into_iter(self) -> Self::IntoIter {
        self.into_map().into_iter()
    }
}

impl<'a, V: 'static> IntoIterator for &'a Map<V> {
    type Item = (&'a String, &'a V);
    type IntoIter = std::collections::btree_map::Iter<'a, String, V>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Map<V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Option::deserialize(d).map(Self)
    }
}

/// Go's `struct{}`: the value of sets such as `ExposedPorts`; always written `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Empty {}

/// A point in time, written in RFC 3339 with as many fractional digits as needed, in UTC.
/// The default is Go's zero time, `0001-01-01T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub jiff::Timestamp);

impl Time {
    /// Now, by the host's clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }

    /// From nanoseconds since the epoch; the zero time when out of range.
    pub fn from_unix_nanos(nanos: i128) -> Self {
        jiff::Timestamp::from_nanosecond(nanos).map_or_else(|_| Self::default(), Self)
    }

    /// Whether this is the zero time.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Time {
    fn default() -> Self {
        const SECONDS_TO_EPOCH: i64 = -62_135_596_800;
        Self(jiff::Timestamp::constant(SECONDS_TO_EPOCH, 0))
    }
}

impl From<jiff::Timestamp> for Time {
    fn from(t: jiff::Timestamp) -> Self {
        Self(t)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Time {
    type Err = jiff::Error;
    fn from_str(s: &str) -> Result<Self, jiff::Error> {
        s.parse().map(Self)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        if text.is_empty() { Ok(Self::default()) } else { text.parse().map_err(D::Error::custom) }
    }
}

/// Whether a value is Go's zero value, for `omitempty`.
pub(crate) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Whether to omit a list.
pub(crate) fn is_empty_list<T>(list: &List<T>) -> bool {
    list.is_empty()
}

/// Whether to omit a map.
pub(crate) fn is_empty_map<V: 'static>(map: &Map<V>) -> bool {
    map.is_empty()
}

/// Reads a command: a list of strings, or one string standing for a list of one.
pub(crate) fn str_list<'de, D: Deserializer<'de>>(d: D) -> Result<List<String>, D::Error> {
    struct V;
    impl<'de> Visitor<'de> for V {
        type Value = List<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string or a list of strings")
        }
        fn visit_unit<E>(self) -> Result<List<String>, E> {
            Ok(List::default())
        }
        fn visit_str<E>(self, s: &str) -> Result<List<String>, E> {
            Ok(vec![s.to_owned()].into())
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<String>, A::Error> {
            let mut items = Vec::with_capacity(seq.size_hint().unwrap_or_default());
            while let Some(item) = seq.next_element()? {
                items.push(item);
            }
            Ok(items.into())
        }
    }
    d.deserialize_any(V)
}

/// Reads Go's `[2]uint`: missing elements are zero, further ones are ignored.
pub(crate) fn console_size<'de, D: Deserializer<'de>>(d: D) -> Result<[u32; 2], D::Error> {
    let sizes: List<u32> = List::deserialize(d)?;
    Ok([0, 1].map(|i| sizes.get(i).copied().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        assert_eq!(Time::default().to_string(), "0001-01-01T00:00:00Z");
        assert_eq!(Time::from_unix_nanos(1_500_000_000).to_string(), "1970-01-01T00:00:01.5Z");
        assert_eq!(Time::from_unix_nanos(1).to_string(), "1970-01-01T00:00:00.000000001Z");
    }

    #[test]
    fn null_maps_read_as_empty() {
        let map: Map<String> = Map::default();
        assert!(map.is_empty() && map.is_null() && !Map::<String>::empty().is_null());
    }
}
