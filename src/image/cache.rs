//! A bounded cache shared by threads: sharded, second-chance replacement, and each value made once even when
//! several threads ask for it at the same time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::error::Result;

/// What a value is found by: the image's number (see [`image_number`]) and a position in it.
pub type Key = (u32, u64);

/// Bytes a cached value costs beside itself.
const OVERHEAD: usize = 160;

/// A number no other image of this process has, so that images can share a cache.
pub fn image_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The cache; `V` is cheap to clone (an `Arc`).
pub struct Cache<V> {
    shards: Box<[Mutex<Shard<V>>]>,
    room: usize,
}

struct Shard<V> {
    slots: HashMap<Key, Arc<Slot<V>>>,
    /// Filled slots, oldest first.
    order: VecDeque<(Key, usize)>,
    weight: usize,
}

struct Slot<V> {
    value: OnceLock<V>,
    filling: Mutex<()>,
    used: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V: Clone> Cache<V> {
    /// Holds at most about `bytes` (but always one value per shard), spread over `shards`.
    pub fn new(bytes: usize, shards: usize) -> Cache<V> {
        let shards = shards.max(1);
        let empty = || Mutex::new(Shard { slots: HashMap::new(), order: VecDeque::new(), weight: 0 });
        Cache { shards: (0..shards).map(|_| empty()).collect(), room: bytes / shards }
    }

    fn shard(&self, key: Key) -> &Mutex<Shard<V>> {
        // Positions are often multiples of a power of two; the high bits of a product with an odd constant are mixed.
        let mixed = (key.1 ^ (u64::from(key.0) << 48)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.shards[mixed as usize % self.shards.len()]
    }

    /// The value when it is here, without waiting for one being made.
    pub fn peek(&self, key: Key) -> Option<V> {
        let shard = lock(self.shard(key));
        let slot = shard.slots.get(&key)?;
        slot.used.store(true, Ordering::Relaxed);
        slot.value.get().cloned()
    }

    /// The value, made by `fill` (which also tells its size in bytes) when it is not here. Failures are not kept.
    pub fn get(&self, key: Key, fill: impl FnOnce() -> Result<(V, usize)>) -> Result<V> {
        let slot = {
            let mut shard = lock(self.shard(key));
            let slot = shard.slots.entry(key).or_insert_with(|| {
                Arc::new(Slot { value: OnceLock::new(), filling: Mutex::new(()), used: AtomicBool::new(false) })
            });
            if let Some(value) = slot.value.get() {
                slot.used.store(true, Ordering::Relaxed);
                return Ok(value.clone());
            }
            Arc::clone(slot)
        };
        let _filling = lock(&slot.filling);
        if let Some(value) = slot.value.get() {
            return Ok(value.clone());
        }
        let made = fill();
        let mut shard = lock(self.shard(key));
        let present = shard.slots.get(&key).is_some_and(|own| Arc::ptr_eq(own, &slot));
        match made {
            Ok((value, weight)) => {
                let _ = slot.value.set(value.clone());
                if present {
                    let weight = weight + OVERHEAD;
                    shard.order.push_back((key, weight));
                    shard.weight += weight;
                    shard.shrink(self.room);
                }
                Ok(value)
            }
            Err(error) => {
                if present {
                    shard.slots.remove(&key);
                }
                Err(error)
            }
        }
    }
}

impl<V> Shard<V> {
    fn shrink(&mut self, room: usize) {
        while self.weight > room && self.order.len() > 1 {
            let Some((key, weight)) = self.order.pop_front() else { return };
            let again = self.slots.get(&key).is_some_and(|slot| slot.used.swap(false, Ordering::Relaxed));
            if again {
                self.order.push_back((key, weight));
            } else {
                self.slots.remove(&key);
                self.weight -= weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::image::error::ImageError;

    #[test]
    fn it_stays_within_its_room_and_keeps_what_is_used() {
        let cache: Cache<Arc<Vec<u8>>> = Cache::new(10 * (1000 + OVERHEAD), 1);
        for key in 0..1000 {
            cache.get((0, key), || Ok((Arc::new(vec![0; 1000]), 1000))).unwrap();
            assert!(cache.get((0, 0), || Ok((Arc::new(vec![1; 1000]), 1000))).unwrap()[0] == 0, "0 went at {key}");
        }
        let shard = lock(&cache.shards[0]);
        assert_eq!(shard.slots.len(), shard.order.len());
        assert!(shard.slots.len() <= 10, "{} values", shard.slots.len());
        assert!(shard.weight <= cache.room);
    }

    #[test]
    fn failures_leave_nothing_behind() {
        let cache: Cache<u8> = Cache::new(1000, 1);
        for _ in 0..100 {
            assert!(cache.get((0, 1), || Err(ImageError::corrupt("no"))).is_err());
        }
        assert!(lock(&cache.shards[0]).slots.is_empty());
        assert_eq!(cache.get((0, 1), || Ok((7, 1))).unwrap(), 7);
    }

    #[test]
    fn one_value_is_made_once_for_all_threads() {
        let cache: Cache<u8> = Cache::new(1000, 4);
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let slow = || {
                        std::thread::sleep(std::time::Duration::from_millis(30));
                        made.fetch_add(1, Ordering::Relaxed);
                        Ok((3, 1))
                    };
                    assert_eq!(cache.get((0, 5), slow).unwrap(), 3);
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
    }
}
