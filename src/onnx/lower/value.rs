//! What is noted of a value: what it would lose, and in which forms it is produced and read.

use super::convert::Losses;
use crate::onnx::analysis::{self, ConstantFacts};

/// The two forms that a value of the original graph can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// FP32, as it was.
    Full,
    /// The lower precision.
    Low,
}

/// In which forms a value can be had without a cast from the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Produced {
    /// In this form only.
    In(Form),
    /// In either: a weight, or a cast from another type.
    Either,
}

/// One value of the original graph.
pub(super) type Value = analysis::Value<Forms>;
/// All values of the original graph.
pub(super) type Values = analysis::Values<Forms>;

/// What is noted of a value; all of it but the facts is for FP32 values alone.
#[derive(Debug)]
pub(super) struct Forms {
    /// What is known of a constant that the graph holds.
    pub(super) facts: Option<ConstantFacts>,
    /// What a constant would lose.
    pub(super) losses: Losses,
    pub(super) produced: Produced,
    wants_full: bool,
    wants_low: bool,
    /// The form that the world outside the graph sees under the value's own name.
    pub(super) interface: Option<Form>,
    /// The name of the form that doesn't carry the value's own.
    pub(super) other_name: String,
}

impl Default for Forms {
    fn default() -> Self {
        Self {
            facts: None,
            losses: Losses::default(),
            // Of what nothing in the graph says otherwise: sparse weights.
            produced: Produced::In(Form::Full),
            wants_full: false,
            wants_low: false,
            interface: None,
            other_name: String::new(),
        }
    }
}

impl Form {
    /// Returns the other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Full => Self::Low,
            Self::Low => Self::Full,
        }
    }

    /// Returns the lower precision if that is so, else FP32.
    pub(super) fn low_if(low: bool) -> Self {
        if low { Self::Low } else { Self::Full }
    }
}

impl Value {
    /// Returns the form that has the value's own name.
    pub(super) fn carried(&self) -> Form {
        match (self.note.interface, self.note.produced) {
            (Some(form), _) | (None, Produced::In(form)) => form,
            (None, Produced::Either) if self.note.wants_low => Form::Low,
            (None, Produced::Either) => Form::Full,
        }
    }

    /// Returns the name under which the value has this form.
    pub(super) fn name_of(&self, form: Form) -> &str {
        if form == self.carried() { &self.name } else { &self.note.other_name }
    }

    /// Returns whether somebody reads the value in this form.
    pub(super) fn wants(&self, form: Form) -> bool {
        match form {
            Form::Full => self.note.wants_full,
            Form::Low => self.note.wants_low,
        }
    }

    /// Notes that somebody reads the value in this form.
    pub(super) fn want(&mut self, form: Form) {
        match form {
            Form::Full => self.note.wants_full = true,
            Form::Low => self.note.wants_low = true,
        }
    }
}
