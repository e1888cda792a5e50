//! Secrets that stand in files, as containers are given them.

use std::fs;
use std::path::Path;

/// The file's text without the line break that editors and `echo` put at its end.
pub(crate) fn read(file: &Path) -> Result<String, String> {
    let text = fs::read_to_string(file)
        .map_err(|error| format!("cannot read the secret in {}: {error}", file.display()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(format!(
            "{} is empty: put the secret into it",
            file.display()
        ));
    }
    Ok(secret.to_owned())
}
