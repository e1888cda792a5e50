//! What a name that is not known was probably meant to be.

/// The known key with most letters in common at the start, if it is close.
pub(super) fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a String> {
    let squeezed = |text: &str| text.replace(['-', '_'], "").to_lowercase();
    let wanted = squeezed(key);
    known
        .iter()
        .map(|name| (distance(&wanted, &squeezed(name)), name))
        .filter(|(distance, _)| *distance <= 2)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits that turn one word into the other.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut next = vec![at + 1];
        for (column, other) in to.iter().enumerate() {
            let [above_left, above] =
                [column, column + 1].map(|i| row.get(i).copied().unwrap_or(usize::MAX / 2));
            let left = next.last().copied().unwrap_or(usize::MAX / 2);
            next.push(
                (above_left + usize::from(letter != *other))
                    .min(above + 1)
                    .min(left + 1),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}
