//! Holds a graph's inputs and outputs against a contract.

use std::fmt;

use ort::value::{Outlet, TensorElementType, ValueType};

use crate::Error;

/// One dimension as the contract has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Dimension {
    /// Any number, called so in messages.
    Any(&'static str),
    /// This number.
    Is(usize),
}

/// One input or output as the contract has it.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    name: &'static str,
    element: TensorElementType,
    dimensions: Vec<Dimension>,
    optional: bool,
}

impl Port {
    pub(crate) fn new(
        name: &'static str,
        element: TensorElementType,
        dimensions: impl IntoIterator<Item = Dimension>,
    ) -> Self {
        Self { name, element, dimensions: dimensions.into_iter().collect(), optional: false }
    }

    /// A graph may do without it.
    pub(crate) fn optional(self) -> Self {
        Self { optional: true, ..self }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    fn accepts(&self, found: &ValueType) -> bool {
        let ValueType::Tensor { ty, shape, .. } = found else { return false };
        let fits = |(found, expected): (&i64, &Dimension)| match expected {
            Dimension::Any(_) => *found == -1,
            Dimension::Is(number) => usize::try_from(*found) == Ok(*number),
        };
        *ty == self.element && shape.len() == self.dimensions.len() && shape.iter().zip(&self.dimensions).all(fits)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dimension = |d: &Dimension| match d {
            Dimension::Any(name) => (*name).to_owned(),
            Dimension::Is(number) => number.to_string(),
        };
        let shape: Vec<String> = self.dimensions.iter().map(dimension).collect();
        write!(f, "{} [{}]", self.element, shape.join(", "))
    }
}

fn describe(found: &ValueType) -> String {
    let ValueType::Tensor { ty, shape, .. } = found else { return "no tensor".into() };
    let dimension = |d: &i64| if *d < 0 { "?".to_owned() } else { d.to_string() };
    let shape: Vec<String> = shape.iter().map(dimension).collect();
    format!("{ty} [{}]", shape.join(", "))
}

/// Fails unless `found` are exactly the `expected` ones, but for optional ones, in any order. `side` is `input` or `output`.
pub(crate) fn check(file: &str, side: &str, found: &[Outlet], expected: &[Port]) -> Result<(), Error> {
    let fail = |name: &str, expected: String, found: String| {
        Err(Error::Contract { file: file.into(), item: format!("{side} {name}"), expected, found })
    };
    for port in expected {
        match found.iter().find(|outlet| outlet.name() == port.name) {
            Some(outlet) if port.accepts(outlet.dtype()) => (),
            Some(outlet) => return fail(port.name, port.to_string(), describe(outlet.dtype())),
            None if port.optional => (),
            None => return fail(port.name, port.to_string(), "none".into()),
        }
    }
    match found.iter().find(|outlet| expected.iter().all(|port| port.name != outlet.name())) {
        Some(outlet) => fail(outlet.name(), "none".into(), describe(outlet.dtype())),
        None => Ok(()),
    }
}
