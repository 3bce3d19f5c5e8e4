//! An ordered map whose clones share all that has not changed since: a balanced binary tree (AVL)
//! with reference-counted entries.
//!
//! A clone costs one reference count. A change copies the entries on its way down that a clone
//! still shares, so at most `log n` of them, and changes the others in place. That is what lets a
//! snapshot of the whole state, or a multi that may fail half way, cost nothing to begin.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

/// A sorted map with clones of constant cost.
#[derive(Clone, Debug)]
pub struct PersistentMap<K, V> {
    root: Link<K, V>,
    len: usize,
}

type Link<K, V> = Option<Arc<Entry<K, V>>>;

#[derive(Clone, Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    height: u8,
    left: Link<K, V>,
    right: Link<K, V>,
}

impl<K, V> Default for PersistentMap<K, V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

impl<K: Ord + Clone, V: Clone> PersistentMap<K, V> {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut link = &self.root;
        while let Some(entry) = link {
            link = match key.cmp(entry.key.borrow()) {
                Ordering::Less => &entry.left,
                Ordering::Greater => &entry.right,
                Ordering::Equal => return Some(&entry.value),
            };
        }
        None
    }

    /// Whether there is such a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The value of a key, to be changed. Nothing is copied if there is no such key.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if !self.contains_key(key) {
            return None;
        }
        let mut link = &mut self.root;
        loop {
            let entry = Arc::make_mut(link.as_mut()?);
            link = match key.cmp(entry.key.borrow()) {
                Ordering::Less => &mut entry.left,
                Ordering::Greater => &mut entry.right,
                Ordering::Equal => return Some(&mut entry.value),
            };
        }
    }

    /// Sets a key's value and returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let before = insert(&mut self.root, key, value);
        if before.is_none() {
            self.len += 1;
        }
        before
    }

    /// Removes a key and returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        if !self.contains_key(key) {
            return None;
        }
        self.len -= 1;
        remove(&mut self.root, key)
    }

    /// The entries in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        let mut iter = Iter { path: Vec::new() };
        iter.descend(&self.root);
        iter
    }
}

/// See [`PersistentMap::iter`].
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    path: Vec<&'a Entry<K, V>>,
}

impl<'a, K, V> Iter<'a, K, V> {
    fn descend(&mut self, mut link: &'a Link<K, V>) {
        while let Some(entry) = link {
            self.path.push(entry);
            link = &entry.left;
        }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.path.pop()?;
        self.descend(&entry.right);
        Some((&entry.key, &entry.value))
    }
}

fn height<K, V>(link: &Link<K, V>) -> u8 {
    link.as_ref().map_or(0, |entry| entry.height)
}

impl<K: Ord + Clone, V: Clone> Entry<K, V> {
    fn update_height(&mut self) {
        self.height = 1 + height(&self.left).max(height(&self.right));
    }

    /// How many levels the left side is higher than the right.
    fn lean(&self) -> i32 {
        i32::from(height(&self.left)) - i32::from(height(&self.right))
    }
}

fn insert<K: Ord + Clone, V: Clone>(link: &mut Link<K, V>, key: K, value: V) -> Option<V> {
    let Some(entry) = link else {
        *link = Some(Arc::new(Entry { key, value, height: 1, left: None, right: None }));
        return None;
    };
    let entry = Arc::make_mut(entry);
    let before = match key.cmp(&entry.key) {
        Ordering::Less => insert(&mut entry.left, key, value),
        Ordering::Greater => insert(&mut entry.right, key, value),
        Ordering::Equal => return Some(std::mem::replace(&mut entry.value, value)),
    };
    if before.is_none() {
        rebalance(link);
    }
    before
}

fn remove<K, V, Q>(link: &mut Link<K, V>, key: &Q) -> Option<V>
where
    K: Ord + Clone + Borrow<Q>,
    V: Clone,
    Q: Ord + ?Sized,
{
    let entry = Arc::make_mut(link.as_mut()?);
    let removed = match key.cmp(entry.key.borrow()) {
        Ordering::Less => remove(&mut entry.left, key),
        Ordering::Greater => remove(&mut entry.right, key),
        Ordering::Equal => {
            let (left, mut right) = (entry.left.take(), entry.right.take());
            let replacement = match take_first(&mut right) {
                None => left,
                Some(mut first) => {
                    let successor = Arc::make_mut(&mut first);
                    successor.left = left;
                    successor.right = right;
                    Some(first)
                }
            };
            std::mem::replace(link, replacement).map(|entry| Arc::unwrap_or_clone(entry).value)
        }
    };
    rebalance(link);
    removed
}

/// Takes the entry with the smallest key out.
fn take_first<K: Ord + Clone, V: Clone>(link: &mut Link<K, V>) -> Option<Arc<Entry<K, V>>> {
    let entry = Arc::make_mut(link.as_mut()?);
    if entry.left.is_some() {
        let first = take_first(&mut entry.left);
        rebalance(link);
        return first;
    }
    let right = entry.right.take();
    std::mem::replace(link, right)
}

fn rebalance<K: Ord + Clone, V: Clone>(link: &mut Link<K, V>) {
    let Some(entry) = link else { return };
    let entry = Arc::make_mut(entry);
    match entry.lean() {
        2 => {
            if entry.left.as_ref().is_some_and(|left| left.lean() < 0) {
                rotate_left(&mut entry.left);
            }
            rotate_right(link);
        }
        -2 => {
            if entry.right.as_ref().is_some_and(|right| right.lean() > 0) {
                rotate_right(&mut entry.right);
            }
            rotate_left(link);
        }
        _ => entry.update_height(),
    }
}

fn rotate_right<K: Ord + Clone, V: Clone>(link: &mut Link<K, V>) {
    let Some(mut top) = link.take() else { return };
    let entry = Arc::make_mut(&mut top);
    let Some(mut pivot) = entry.left.take() else { unreachable!("leans to the left") };
    let new_top = Arc::make_mut(&mut pivot);
    entry.left = new_top.right.take();
    entry.update_height();
    new_top.right = Some(top);
    new_top.update_height();
    *link = Some(pivot);
}

fn rotate_left<K: Ord + Clone, V: Clone>(link: &mut Link<K, V>) {
    let Some(mut top) = link.take() else { return };
    let entry = Arc::make_mut(&mut top);
    let Some(mut pivot) = entry.right.take() else { unreachable!("leans to the right") };
    let new_top = Arc::make_mut(&mut pivot);
    entry.right = new_top.left.take();
    entry.update_height();
    new_top.left = Some(top);
    new_top.update_height();
    *link = Some(pivot);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Checks heights and balance below a link and returns its height.
    fn check(link: &Link<u16, u32>) -> u8 {
        let Some(entry) = link else { return 0 };
        let (left, right) = (check(&entry.left), check(&entry.right));
        assert!(left.abs_diff(right) <= 1);
        assert_eq!(entry.height, 1 + left.max(right));
        entry.height
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u32),
        Remove(u16),
        Change(u16, u32),
        Clone,
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = 0..200_u16;
        prop_oneof![
            4 => (key.clone(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
            3 => key.clone().prop_map(Step::Remove),
            1 => (key, any::<u32>()).prop_map(|(key, value)| Step::Change(key, value)),
            1 => Just(Step::Clone),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map_and_its_clones_stay_as_they_were(
            steps in proptest::collection::vec(step(), 0..400),
        ) {
            let mut map = PersistentMap::default();
            let mut model = BTreeMap::new();
            let mut clones = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(key, value) => {
                        prop_assert_eq!(map.insert(key, value), model.insert(key, value));
                    }
                    Step::Remove(key) => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                    Step::Change(key, value) => {
                        prop_assert_eq!(
                            map.get_mut(&key).map(|old| std::mem::replace(old, value)),
                            model.get_mut(&key).map(|old| std::mem::replace(old, value))
                        );
                    }
                    Step::Clone => clones.push((map.clone(), model.clone())),
                }
                check(&map.root);
            }
            clones.push((map, model));
            for (map, model) in clones {
                prop_assert_eq!(map.len(), model.len());
                prop_assert!(map.iter().eq(model.iter()));
            }
        }
    }
}
