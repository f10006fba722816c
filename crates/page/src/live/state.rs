//! The page's state as one JSON object, with what changed in it since any version.
//!
//! The object is stored leaf by leaf (a leaf is anything but an object), each with the version in which it last
//! changed. So a viewer at any version gets everything that changed since in one JSON Merge Patch (RFC 7396), and a
//! slow viewer skips versions without missing anything.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Deleted leaves that are remembered. A viewer at a version from before the oldest of them gets the whole state.
const GONE_MAX: usize = 2_000;

#[derive(Debug, Default)]
pub struct State {
    version: u64,
    leaves: BTreeMap<Path, Leaf>,
    gone: usize,
    /// Leaves deleted up to this version are no longer remembered.
    forgotten: u64,
}

/// The field names leading to a leaf.
type Path = Vec<Box<str>>;

#[derive(Debug)]
struct Leaf {
    version: u64,
    /// None: the leaf was deleted.
    value: Option<Value>,
}

impl State {
    /// Incremented by each [`State::put`] that changes anything.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Replaces fields by name; a null deletes one. Returns whether anything changed.
    pub fn put(&mut self, fields: Map<String, Value>) -> bool {
        let next = self.version + 1;
        let mut changed = false;
        for (name, value) in fields {
            let mut path = vec![name.into_boxed_str()];
            let mut new = BTreeMap::new();
            flatten(&mut path, value, &mut new);
            for (path, leaf) in under_mut(&mut self.leaves, &path) {
                if leaf.value.is_some() && !new.contains_key(path) {
                    *leaf = Leaf { version: next, value: None };
                    self.gone += 1;
                    changed = true;
                }
            }
            for (path, value) in new {
                let known = self.leaves.get(&path).map(|leaf| leaf.value.as_ref());
                if known == Some(Some(&value)) {
                    continue;
                }
                self.gone -= usize::from(known == Some(None));
                self.leaves.insert(path, Leaf { version: next, value: Some(value) });
                changed = true;
            }
        }
        if changed {
            self.version = next;
            self.forget();
        }
        changed
    }

    /// The whole state.
    pub fn whole(&self) -> Value {
        let mut whole = Map::new();
        for (path, leaf) in &self.leaves {
            if let Some(value) = &leaf.value {
                set(&mut whole, path, value.clone());
            }
        }
        Value::Object(whole)
    }

    /// The patch from that version to the current state; none if too much has been forgotten since.
    pub fn since(&self, version: u64) -> Option<Value> {
        if version < self.forgotten || version > self.version {
            return None;
        }
        let mut patch = Map::new();
        for (path, leaf) in self.leaves.iter().filter(|(_, leaf)| leaf.version > version) {
            match &leaf.value {
                Some(value) => set(&mut patch, path, value.clone()),
                // A leaf has replaced the object, and is already in the patch.
                None if (1..path.len()).any(|depth| self.is_leaf(&path[..depth])) => {}
                // An object whose last leaf is deleted is deleted too.
                None => {
                    let dead = (1..path.len()).find(|&depth| !self.lives(&path[..depth])).unwrap_or(path.len());
                    set(&mut patch, &path[..dead], Value::Null);
                }
            }
        }
        Some(Value::Object(patch))
    }

    fn is_leaf(&self, path: &[Box<str>]) -> bool {
        self.leaves.get(path).is_some_and(|leaf| leaf.value.is_some())
    }

    fn lives(&self, prefix: &[Box<str>]) -> bool {
        let mut under = self.leaves.range(prefix.to_vec()..).take_while(|(path, _)| path.starts_with(prefix));
        under.any(|(_, leaf)| leaf.value.is_some())
    }

    fn forget(&mut self) {
        if self.gone <= GONE_MAX {
            return;
        }
        let mut versions: Vec<u64> =
            self.leaves.values().filter(|leaf| leaf.value.is_none()).map(|leaf| leaf.version).collect();
        versions.sort_unstable();
        let upto = versions[versions.len() / 2];
        self.leaves.retain(|_, leaf| leaf.value.is_some() || leaf.version > upto);
        self.gone = self.leaves.values().filter(|leaf| leaf.value.is_none()).count();
        self.forgotten = upto;
    }
}

/// Collects the leaves of a value. Empty objects and nulls have none.
fn flatten(path: &mut Path, value: Value, leaves: &mut BTreeMap<Path, Value>) {
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                path.push(name.into_boxed_str());
                flatten(path, value, leaves);
                path.pop();
            }
        }
        leaf => {
            leaves.insert(path.clone(), leaf);
        }
    }
}

fn under_mut<'a>(
    leaves: &'a mut BTreeMap<Path, Leaf>,
    prefix: &'a Path,
) -> impl Iterator<Item = (&'a Path, &'a mut Leaf)> {
    leaves.range_mut(prefix.clone()..).take_while(move |(path, _)| path.starts_with(prefix))
}

/// Sets the value at a path, creating objects on the way.
fn set(object: &mut Map<String, Value>, path: &[Box<str>], value: Value) {
    let [name, rest @ ..] = path else { return };
    if rest.is_empty() {
        object.insert(name.to_string(), value);
        return;
    }
    let inner = object.entry(&**name).or_insert(Value::Null);
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Value::Object(inner) = inner {
        set(inner, rest, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// MergePatch as in RFC 7396, section 2.
    fn merge_patch(target: Value, patch: Value) -> Value {
        let Value::Object(patch) = patch else { return patch };
        let mut target = match target {
            Value::Object(target) => target,
            _ => Map::new(),
        };
        for (name, value) in patch {
            if value.is_null() {
                target.remove(&name);
            } else {
                let before = target.remove(&name).unwrap_or(Value::Null);
                target.insert(name, merge_patch(before, value));
            }
        }
        Value::Object(target)
    }

    /// Drops nulls and empty objects, which a state does not keep.
    fn bare(value: Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name, bare(value)));
                Value::Object(fields.filter(|(_, value)| !value.is_null() && *value != json!({})).collect())
            }
            other => other,
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            (0..3_u8).prop_map(|n| json!(n)),
            Just(json!([1, null])),
            Just(json!("text"))
        ];
        leaf.prop_recursive(3, 12, 3, |inner| {
            proptest::collection::hash_map("[ab]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect()))
        })
    }

    proptest! {
        /// Whichever versions a viewer sees, patches bring it to the whole state.
        #[test]
        fn patches_lead_to_the_whole(puts in vec((proptest::sample::select(vec!["x", "y"]), value()), 1..12), seen in vec(any::<bool>(), 12)) {
            let mut state = State::default();
            let mut naive = Map::new();
            let mut viewer = (state.version(), state.whole());
            for ((name, value), seen) in puts.into_iter().zip(seen) {
                naive.insert(name.to_owned(), value.clone());
                let before = state.version();
                let changed = state.put(Map::from_iter([(name.to_owned(), value)]));
                prop_assert_eq!(state.version(), before + u64::from(changed));
                prop_assert_eq!(state.whole(), bare(Value::Object(naive.clone())));
                if seen {
                    let patch = state.since(viewer.0).expect("nothing is forgotten yet");
                    viewer = (state.version(), merge_patch(viewer.1, patch));
                    prop_assert_eq!(&viewer.1, &state.whole());
                }
            }
        }
    }

    #[test]
    fn old_deletions_are_forgotten() {
        let mut state = State::default();
        for n in 0..GONE_MAX as u64 * 4 {
            state.put(Map::from_iter([("seconds".to_owned(), json!({ n.to_string(): { "votes": n } }))]));
            assert!(state.leaves.len() <= GONE_MAX + 2);
        }
        assert_eq!(state.since(0), None, "too long ago");
        let last = state.version();
        assert_eq!(
            state.since(last - 1),
            Some(json!({"seconds": {(last - 2).to_string(): null, (last - 1).to_string(): {"votes": last - 1}}}))
        );
        assert_eq!(state.since(last), Some(json!({})));
        assert_eq!(state.since(last + 1), None, "a version from the future");
    }
}
