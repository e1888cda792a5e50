//! Keys of named values in parts: group, name, generation, part.

/// The head of a named value: which generation is valid, and the sizes of its chunks.
pub(crate) fn head_key(group: u32, name: &str) -> Vec<u8> {
    key(HEAD, group, name)
}

/// A part of a generation of a named value.
pub(crate) fn part_key(group: u32, name: &str, generation: u32, part: u32) -> Vec<u8> {
    let mut bytes = key(PART, group, name);
    bytes.extend_from_slice(&generation.to_be_bytes());
    bytes.extend_from_slice(&part.to_be_bytes());
    bytes
}

/// From the first part of generation `from` to behind the last part of the generation in front of
/// `end` (`None`: of the last generation).
pub(crate) fn generations(
    group: u32,
    name: &str,
    from: u32,
    end: Option<u32>,
) -> (Vec<u8>, Vec<u8>) {
    let end = match end {
        Some(end) => part_key(group, name, end, 0),
        None => {
            let mut end = part_key(group, name, u32::MAX, u32::MAX);
            end.push(0);
            end
        }
    };
    (part_key(group, name, from, 0), end)
}

/// Longest name.
pub(crate) const MAX_NAME: usize = 255;

const HEAD: u8 = 0;
const PART: u8 = 1;

/// All heads: from, to.
pub(crate) const HEADS: ([u8; 1], [u8; 1]) = ([HEAD], [PART]);

/// The length in front of the name keeps names apart that begin alike.
fn key(kind: u8, group: u32, name: &str) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&group.to_be_bytes());
    bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
    bytes.extend_from_slice(name.as_bytes());
    bytes
}

/// Group and name of a head.
pub(crate) fn parse_head(bytes: &[u8]) -> Option<(u32, &str)> {
    let (&kind, rest) = bytes.split_first()?;
    let (group, rest) = rest.split_first_chunk::<4>()?;
    let (&len, name) = rest.split_first()?;
    let whole = kind == HEAD && name.len() == usize::from(len);
    whole.then_some(())?;
    Some((u32::from_be_bytes(*group), std::str::from_utf8(name).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn heads_come_back(group in any::<u32>(), name in "[a-z]{0,20}") {
            let key = head_key(group, &name);
            prop_assert_eq!(parse_head(&key), Some((group, name.as_str())));
        }

        #[test]
        fn parts_are_in_order_and_in_their_range(
            group in any::<u32>(), name in "[a-z]{0,20}",
            a in any::<(u32, u32)>(), b in any::<(u32, u32)>()
        ) {
            let x = part_key(group, &name, a.0, a.1);
            let y = part_key(group, &name, b.0, b.1);
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            let (from, end) = generations(group, &name, a.0, a.0.checked_add(1));
            prop_assert!(from <= x && x < end);
            prop_assert_eq!(parse_head(&x), None);
        }

        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..24)) {
            let _ = parse_head(&bytes);
        }
    }
}
