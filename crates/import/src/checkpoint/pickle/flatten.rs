//! From the values of a pickle to tensors by dotted key, and all else as JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::value::{Id, Node, Object, Values};

/// Values within values.
const DEPTH: usize = 100;
/// What may be made of a pickle, in bytes, roughly.
const BUDGET: usize = 48 << 20;
/// Bytes of a value as JSON, and of a tensor's entry, beside its text.
const VALUE: usize = 96;
const TENSOR: usize = 512;
/// Bytes of a key.
const KEY: usize = 1024;
/// Where the attributes of PyTorch's modules keep what a state dict names without them.
const TRANSPARENT: [&str; 3] = ["_parameters", "_buffers", "_modules"];
/// Where a training program keeps the state dict, beside what else it saves.
const HOLDERS: [&str; 9] =
    ["state_dict", "model_state_dict", "model", "weights", "module", "params_ema", "params", "net", "ema"];
/// The field of an object's class in JSON.
const CLASS: &str = "__class__";

/// Tensors by key and, as JSON, what lies beside them.
pub(crate) fn split(values: &Values, whole: Id) -> Result<(BTreeMap<String, Id>, Value), String> {
    let mut walk = Walk { values, budget: BUDGET };
    let is_state = matches!(values.get(whole), Node::Dict(entries)
        if entries.iter().any(|(_, value)| matches!(values.get(*value), Node::Tensor(_))));
    if !is_state {
        for holder in HOLDERS {
            let Some(held) = values.item(whole, holder) else { continue };
            let tensors = walk.tensors(held)?;
            if !tensors.is_empty() {
                return Ok((tensors, walk.json(whole, Some(holder), 0)?));
            }
        }
    }
    Ok((walk.tensors(whole)?, walk.json(whole, None, 0)?))
}

struct Walk<'a> {
    values: &'a Values,
    budget: usize,
}

impl Walk<'_> {
    fn spend(&mut self, bytes: usize, depth: usize) -> Result<(), String> {
        if depth > DEPTH {
            return Err(format!("values within values, more than {DEPTH} deep"));
        }
        self.budget = self.budget.checked_sub(bytes).ok_or("too many values, some of them many times")?;
        Ok(())
    }

    fn tensors(&mut self, id: Id) -> Result<BTreeMap<String, Id>, String> {
        let mut found = BTreeMap::new();
        self.collect(id, "", 0, &mut found)?;
        Ok(found)
    }

    fn collect(&mut self, id: Id, key: &str, depth: usize, found: &mut BTreeMap<String, Id>) -> Result<(), String> {
        self.spend(VALUE, depth)?;
        let values = self.values;
        match values.get(id) {
            Node::Tensor(_) => {
                self.spend(TENSOR + key.len(), depth)?;
                found.insert(key.to_owned(), id);
            }
            Node::Dict(entries) => self.named(entries, key, depth, found)?,
            Node::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.collect(*item, &dotted(key, &i.to_string())?, depth + 1, found)?;
                }
            }
            Node::Object(object) => {
                self.named(&object.entries, key, depth, found)?;
                self.named(attributes(values, object), key, depth, found)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn named(
        &mut self,
        entries: &[(Id, Id)],
        key: &str,
        depth: usize,
        found: &mut BTreeMap<String, Id>,
    ) -> Result<(), String> {
        for (name, value) in entries {
            match name_of(self.values, *name) {
                Some(name) if TRANSPARENT.contains(&name.as_str()) => self.collect(*value, key, depth + 1, found)?,
                Some(name) => self.collect(*value, &dotted(key, &name)?, depth + 1, found)?,
                None => {}
            }
        }
        Ok(())
    }

    /// A value as JSON; of the outermost mapping, what is under `without` is left out.
    fn json(&mut self, id: Id, without: Option<&str>, depth: usize) -> Result<Value, String> {
        self.spend(VALUE, depth)?;
        let values = self.values;
        Ok(match values.get(id) {
            Node::None | Node::Large | Node::Bytes(_) | Node::Storage(_) | Node::Tensor(_) => Value::Null,
            Node::Bool(b) => Value::Bool(*b),
            Node::Int(n) => Value::from(*n),
            Node::Float(f) => Number::from_f64(*f).map_or(Value::Null, Value::Number),
            Node::Text(text) | Node::Global(text) => {
                self.spend(text.len(), depth)?;
                Value::String(text.to_string())
            }
            Node::List(items) => {
                let items = items.iter().filter(|item| is_plain(values, **item));
                items.map(|item| self.json(*item, None, depth + 1)).collect::<Result<_, _>>()?
            }
            Node::Dict(entries) => {
                let mut fields = Map::new();
                self.fields(entries, without, depth, &mut fields)?;
                Value::Object(fields)
            }
            Node::Object(object) => self.object(object, depth)?,
        })
    }

    fn object(&mut self, object: &Object, depth: usize) -> Result<Value, String> {
        let values = self.values;
        let mut fields = Map::new();
        let class = self.json(object.class, None, depth + 1)?;
        fields.insert(CLASS.into(), class);
        let given = values.list(object.arguments).unwrap_or_default();
        if object.state.is_none() && !given.is_empty() {
            fields.insert("arguments".into(), self.json(object.arguments, None, depth + 1)?);
        }
        if !object.items.is_empty() {
            let items = object.items.iter().filter(|item| is_plain(values, **item));
            let items = items.map(|item| self.json(*item, None, depth + 1)).collect::<Result<_, _>>()?;
            fields.insert("items".into(), items);
        }
        self.fields(&object.entries, None, depth, &mut fields)?;
        self.fields(attributes(values, object), None, depth, &mut fields)?;
        Ok(Value::Object(fields))
    }

    fn fields(
        &mut self,
        entries: &[(Id, Id)],
        without: Option<&str>,
        depth: usize,
        fields: &mut Map<String, Value>,
    ) -> Result<(), String> {
        for (name, value) in entries {
            let Some(name) = name_of(self.values, *name) else { continue };
            if without == Some(name.as_str()) || !is_plain(self.values, *value) {
                continue;
            }
            self.spend(name.len(), depth)?;
            let value = self.json(*value, None, depth + 1)?;
            fields.insert(name, value);
        }
        Ok(())
    }
}

/// Whether a value says something without its numbers.
fn is_plain(values: &Values, id: Id) -> bool {
    !matches!(values.get(id), Node::Tensor(_) | Node::Storage(_))
}

/// An object's attributes: its state, or the first part of it.
fn attributes<'a>(values: &'a Values, object: &Object) -> &'a [(Id, Id)] {
    let state = object.state.map(|state| values.list(state).and_then(|parts| parts.first().copied()).unwrap_or(state));
    match state.map(|state| values.get(state)) {
        Some(Node::Dict(entries)) => entries,
        _ => &[],
    }
}

/// A key of a mapping that can be part of a dotted key.
fn name_of(values: &Values, id: Id) -> Option<String> {
    match values.get(id) {
        Node::Text(text) if text.len() <= KEY => Some(text.to_string()),
        Node::Int(n) => Some(n.to_string()),
        _ => None,
    }
}

fn dotted(key: &str, name: &str) -> Result<String, String> {
    match key {
        "" => Ok(name.to_owned()),
        _ if key.len() + name.len() < KEY => Ok(format!("{key}.{name}")),
        _ => Err(format!("a key of more than {KEY} bytes")),
    }
}
