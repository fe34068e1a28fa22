//! The element types of tensors, by the ONNX specification.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

macro_rules! element_types {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal, $bits:literal;)*) => {
        /// The type of a tensor's elements.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum ElementType {
            $($(#[$doc])* $variant = $code,)*
        }

        impl ElementType {
            /// Returns the type with this number in the specification; `None` for a number it doesn't have.
            pub const fn from_onnx(code: i32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Returns the name in the specification, in lower case.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Returns the type with this name in the specification.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// Returns the size of one element in bits; 0 where elements have no fixed size.
            pub const fn size_bits(self) -> u64 {
                match self {
                    $(Self::$variant => $bits,)*
                }
            }
        }
    };
}

element_types! {
    /// No type given, or no tensor.
    Undefined = 0, "undefined", 0;
    /// 32-bit floating point.
    Float = 1, "float", 32;
    /// 8-bit unsigned integer.
    Uint8 = 2, "uint8", 8;
    /// 8-bit signed integer.
    Int8 = 3, "int8", 8;
    /// 16-bit unsigned integer.
    Uint16 = 4, "uint16", 16;
    /// 16-bit signed integer.
    Int16 = 5, "int16", 16;
    /// 32-bit signed integer.
    Int32 = 6, "int32", 32;
    /// 64-bit signed integer.
    Int64 = 7, "int64", 64;
    /// Byte strings.
    String = 8, "string", 0;
    /// Booleans, a byte each.
    Bool = 9, "bool", 8;
    /// 16-bit floating point (IEEE).
    Float16 = 10, "float16", 16;
    /// 64-bit floating point.
    Double = 11, "double", 64;
    /// 32-bit unsigned integer.
    Uint32 = 12, "uint32", 32;
    /// 64-bit unsigned integer.
    Uint64 = 13, "uint64", 64;
    /// Complex number of two 32-bit floats.
    Complex64 = 14, "complex64", 64;
    /// Complex number of two 64-bit floats.
    Complex128 = 15, "complex128", 128;
    /// The upper 16 bits of a 32-bit float.
    Bfloat16 = 16, "bfloat16", 16;
    /// 8-bit float, finite and NaN, no infinity.
    Float8e4m3fn = 17, "float8e4m3fn", 8;
    /// 8-bit float, finite and NaN, no negative zero.
    Float8e4m3fnuz = 18, "float8e4m3fnuz", 8;
    /// 8-bit float with 5 bits of exponent.
    Float8e5m2 = 19, "float8e5m2", 8;
    /// 8-bit float with 5 bits of exponent, no negative zero.
    Float8e5m2fnuz = 20, "float8e5m2fnuz", 8;
    /// 4-bit unsigned integer, two a byte.
    Uint4 = 21, "uint4", 4;
    /// 4-bit signed integer, two a byte.
    Int4 = 22, "int4", 4;
    /// 4-bit float, two a byte.
    Float4e2m1 = 23, "float4e2m1", 4;
    /// 8-bit power of two.
    Float8e8m0 = 24, "float8e8m0", 8;
    /// 2-bit unsigned integer, four a byte.
    Uint2 = 25, "uint2", 2;
    /// 2-bit signed integer, four a byte.
    Int2 = 26, "int2", 2;
    /// 6-bit float with 2 bits of exponent.
    Float6e2m3 = 27, "float6e2m3", 6;
    /// 6-bit float with 3 bits of exponent.
    Float6e3m2 = 28, "float6e3m2", 6;
}

impl ElementType {
    /// Returns the number of this type in the specification.
    pub const fn to_onnx(self) -> i32 {
        self as i32
    }

    /// Returns the bytes that `count` elements take; `None` if that is unknown or exceeds 64 bits.
    pub fn size_bytes(self, count: u64) -> Option<u64> {
        match self.size_bits() {
            0 => None,
            bits => u64::try_from((u128::from(count) * u128::from(bits)).div_ceil(8)).ok(),
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_names_and_sizes() {
        for code in 0..=28 {
            let element_type = ElementType::from_onnx(code).unwrap();
            assert_eq!(element_type.to_onnx(), code);
            assert_eq!(ElementType::from_name(element_type.as_str()), Some(element_type));
        }
        assert_eq!(ElementType::from_onnx(29), None);
        assert_eq!(ElementType::Int4.size_bytes(3), Some(2));
        assert_eq!(ElementType::Double.size_bytes(u64::MAX), None);
        assert_eq!(serde_json::to_value(ElementType::Bfloat16).unwrap(), ElementType::Bfloat16.as_str());
    }
}
