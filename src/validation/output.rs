//! An output of a graph: its values and its shape.

/// Values of one type, and their shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<T> {
    /// The values, row after row.
    pub values: Vec<T>,
    /// The shape.
    pub shape: Vec<usize>,
}

/// Values of 32 bits; those of 16 bits become them.
pub type Floats = Array<f32>;

impl<T: Copy> Array<T> {
    /// Returns the number of values of a row: one index of the first dimension. Never 0.
    pub fn row_length(&self) -> usize {
        self.shape.iter().skip(1).product::<usize>().max(1)
    }

    /// Returns the rows.
    pub fn rows(&self) -> impl Iterator<Item = &[T]> {
        self.values.chunks(self.row_length())
    }

    /// Returns the first rows.
    #[must_use]
    pub fn first_rows(&self, count: usize) -> Self {
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = count.min(*rows);
        }
        let length = (count * self.row_length()).min(self.values.len());
        Self { values: self.values[..length].to_vec(), shape }
    }

    /// Returns `count` values along one dimension, from `first` on.
    fn along(&self, axis: usize, first: usize, count: usize) -> Self {
        let length = self.shape[axis];
        let inner: usize = self.shape[axis + 1..].iter().product();
        let first = first.min(length);
        let count = count.min(length - first);
        let blocks = self.values.chunks((length * inner).max(1));
        let values =
            blocks.flat_map(|block| &block[first * inner..(first + count) * inner]).copied().collect();
        let mut shape = self.shape.clone();
        shape[axis] = count;
        Self { values, shape }
    }

    fn map<U>(&self, change: impl Fn(T) -> U) -> Array<U> {
        Array { values: self.values.iter().copied().map(change).collect(), shape: self.shape.clone() }
    }
}

/// An output of any type that is compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Floating point of up to 32 bits.
    Floats(Floats),
    /// Floating point of 64 bits.
    Doubles(Array<f64>),
    /// Integers; one of 64 bits without a sign has the same bits as here.
    Integers(Array<i64>),
    /// Truth values.
    Booleans(Array<bool>),
}

impl Output {
    /// Returns its shape.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Floats(array) => &array.shape,
            Self::Doubles(array) => &array.shape,
            Self::Integers(array) => &array.shape,
            Self::Booleans(array) => &array.shape,
        }
    }

    /// Returns whether it has no value.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Floats(array) => array.values.is_empty(),
            Self::Doubles(array) => array.values.is_empty(),
            Self::Integers(array) => array.values.is_empty(),
            Self::Booleans(array) => array.values.is_empty(),
        }
    }

    /// Returns the kind of its values, in words. Outputs of one kind can be compared, whatever their sizes.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Floats(_) | Self::Doubles(_) => "floating-point numbers",
            Self::Integers(_) => "integers",
            Self::Booleans(_) => "booleans",
        }
    }

    /// Returns whether every value is a number and not infinite.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Floats(array) => array.values.iter().all(|value| value.is_finite()),
            Self::Doubles(array) => array.values.iter().all(|value| value.is_finite()),
            Self::Integers(_) | Self::Booleans(_) => true,
        }
    }

    /// Returns a list of vectors: floating point of two dimensions. `None` for anything else.
    pub fn embedding(&self) -> Option<Floats> {
        match self {
            _ if self.shape().len() != 2 => None,
            Self::Floats(array) => Some(array.clone()),
            Self::Doubles(array) => Some(array.map(|value| value as f32)),
            Self::Integers(_) | Self::Booleans(_) => None,
        }
    }

    /// Returns floating-point numbers in double precision; `None` for other kinds.
    pub(super) fn doubles(&self) -> Option<Array<f64>> {
        match self {
            Self::Floats(array) => Some(array.map(f64::from)),
            Self::Doubles(array) => Some(array.clone()),
            Self::Integers(_) | Self::Booleans(_) => None,
        }
    }

    /// Returns integers, and booleans as 0 and 1; `None` for floating-point numbers.
    pub(super) fn integers(&self) -> Option<Array<i64>> {
        match self {
            Self::Integers(array) => Some(array.clone()),
            Self::Booleans(array) => Some(array.map(i64::from)),
            Self::Floats(_) | Self::Doubles(_) => None,
        }
    }

    /// Returns `count` values along one dimension, from `first` on.
    #[must_use]
    pub(super) fn along(&self, axis: usize, first: usize, count: usize) -> Self {
        match self {
            Self::Floats(array) => Self::Floats(array.along(axis, first, count)),
            Self::Doubles(array) => Self::Doubles(array.along(axis, first, count)),
            Self::Integers(array) => Self::Integers(array.along(axis, first, count)),
            Self::Booleans(array) => Self::Booleans(array.along(axis, first, count)),
        }
    }

    /// Returns the first rows.
    #[must_use]
    pub fn first_rows(&self, count: usize) -> Self {
        match self {
            Self::Floats(array) => Self::Floats(array.first_rows(count)),
            Self::Doubles(array) => Self::Doubles(array.first_rows(count)),
            Self::Integers(array) => Self::Integers(array.first_rows(count)),
            Self::Booleans(array) => Self::Booleans(array.first_rows(count)),
        }
    }
}
