//! The decoder: a serde `Deserializer` over a parsed value that folds member names as Go does.

use std::borrow::Cow;

use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::error::{JsonError, Target};
use super::node::Node;

type Result<T> = std::result::Result<T, JsonError>;

fn mismatch<T>(node: &Node<'_>, wanted: &str) -> Result<T> {
    let (value, wanted) = (node.kind(), wanted.to_owned());
    Err(JsonError::Type { value, target: Target::default(), wanted })
}

macro_rules! integer {
    ($($method:ident $visit:ident $ty:ty, $go:literal;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
            match self {
                Node::Null => visitor.$visit(0),
                Node::Number(n) => {
                    let small = n.as_i64().and_then(|v| <$ty>::try_from(v).ok())
                        .or_else(|| n.as_u64().and_then(|v| <$ty>::try_from(v).ok()));
                    match small {
                        Some(v) => visitor.$visit(v),
                        None => {
                            let (value, wanted) = (format!("number {n}"), $go.to_owned());
                            Err(JsonError::Type { value, target: Target::default(), wanted })
                        }
                    }
                }
                other => mismatch(other, $go),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for &Node<'de> {
    type Error = JsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Node::Null => visitor.visit_unit(),
            Node::Bool(v) => visitor.visit_bool(*v),
            Node::Number(n) => match (n.as_u64(), n.as_i64()) {
                (Some(v), _) => visitor.visit_u64(v),
                (None, Some(v)) => visitor.visit_i64(v),
                (None, None) => visitor.visit_f64(n.as_f64().unwrap_or_default()),
            },
            Node::String(_) => self.deserialize_str(visitor),
            Node::Array(_) => self.deserialize_seq(visitor),
            Node::Object(_) => self.deserialize_map(visitor),
        }
    }

    integer! {
        deserialize_i8 visit_i8 i8, "int8";
        deserialize_i16 visit_i16 i16, "int16";
        deserialize_i32 visit_i32 i32, "int";
        deserialize_i64 visit_i64 i64, "int64";
        deserialize_u8 visit_u8 u8, "uint8";
        deserialize_u16 visit_u16 u16, "uint16";
        deserialize_u32 visit_u32 u32, "uint";
        deserialize_u64 visit_u64 u64, "uint64";
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Node::Null => visitor.visit_f64(0.0),
            Node::Number(n) => visitor.visit_f64(n.as_f64().unwrap_or_default()),
            other => mismatch(other, "float64"),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Node::Null => visitor.visit_bool(false),
            Node::Bool(v) => visitor.visit_bool(*v),
            other => mismatch(other, "bool"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Node::Null => visitor.visit_str(""),
            Node::String(Cow::Borrowed(s)) => visitor.visit_borrowed_str(s),
            Node::String(Cow::Owned(s)) => visitor.visit_str(s),
            other => mismatch(other, "string"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Node::Null => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Node::Null => visitor.visit_seq(Items([].iter())),
            Node::Array(items) => visitor.visit_seq(Items(items.iter())),
            other => mismatch(other, "[]string"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value> {
        match self {
            Node::Null => visitor.visit_map(Members { rest: [].iter(), value: None }),
            Node::Object(members) => visitor.visit_map(Members { rest: members.iter(), value: None }),
            other => mismatch(other, "map[string]string"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self {
            Node::Null => visitor.visit_map(Fields::new(name, fields, &[])),
            Node::Object(members) => visitor.visit_map(Fields::new(name, fields, members)),
            other => mismatch(other, name),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value> {
        match self {
            Node::String(s) => visitor.visit_enum(Variant(s)),
            other => mismatch(other, "string"),
        }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple_struct identifier ignored_any
    }
}

/// Elements of an array.
struct Items<'a, 'de>(std::slice::Iter<'a, Node<'de>>);

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = JsonError;
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>> {
        self.0.next().map(|item| seed.deserialize(item)).transpose()
    }
    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// Members of an object read as a map: names are data and stay as they are.
struct Members<'a, 'de> {
    rest: std::slice::Iter<'a, (Cow<'de, str>, Node<'de>)>,
    value: Option<&'a Node<'de>>,
}

impl<'de> MapAccess<'de> for Members<'_, 'de> {
    type Error = JsonError;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        match key {
            Cow::Borrowed(key) => seed.deserialize(BorrowedStrDeserializer::new(key)).map(Some),
            Cow::Owned(key) => seed.deserialize(StrDeserializer::new(key)).map(Some),
        }
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        seed.deserialize(self.value.take().unwrap_or(&Node::Null))
    }
}

/// Members of an object read as a struct: the last member whose name folds to a field is its value,
/// null members and unknown ones do not count.
struct Fields<'a, 'de> {
    name: &'static str,
    fields: &'static [&'static str],
    values: Vec<Option<&'a Node<'de>>>,
    next: usize,
}

impl<'a, 'de> Fields<'a, 'de> {
    fn new(
        name: &'static str,
        fields: &'static [&'static str],
        members: &'a [(Cow<'de, str>, Node<'de>)],
    ) -> Self {
        let mut values = vec![None; fields.len()];
        for (key, value) in members {
            if matches!(value, Node::Null) {
                continue;
            }
            let exact = fields.iter().position(|f| *f == key);
            if let Some(i) = exact.or_else(|| fields.iter().position(|f| f.eq_ignore_ascii_case(key))) {
                values[i] = Some(value);
            }
        }
        Self { name, fields, values, next: 0 }
    }
}

impl<'de> MapAccess<'de> for Fields<'_, 'de> {
    type Error = JsonError;
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>> {
        while self.values.get(self.next).is_some_and(Option::is_none) {
            self.next += 1;
        }
        let Some(field) = self.fields.get(self.next) else { return Ok(None) };
        seed.deserialize((*field).into_deserializer()).map(Some)
    }
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value> {
        let field = self.fields[self.next];
        let value = self.values[self.next].unwrap_or(&Node::Null);
        self.next += 1;
        seed.deserialize(value).map_err(|e| e.within(self.name, field))
    }
}

/// A string read as a unit variant.
struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = JsonError;
    type Variant = Self;
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self)> {
        let deserializer: StrDeserializer<'_, JsonError> = self.0.into_deserializer();
        Ok((seed.deserialize(deserializer)?, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_> {
    type Error = JsonError;
    fn unit_variant(self) -> Result<()> {
        Ok(())
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value> {
        Err(JsonError::Value(format!("variant {} has no value", self.0)))
    }
    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value> {
        Err(JsonError::Value(format!("variant {} has no value", self.0)))
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value> {
        Err(JsonError::Value(format!("variant {} has no value", self.0)))
    }
}
