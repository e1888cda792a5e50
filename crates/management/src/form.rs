//! Files that come as a form does: what a browser sends, or `curl -F file=@definitions.json`.

/// The content of the part `file` of a `multipart/form-data` body with this content type. `None` if the body is no
/// such form; an error if it is one without that part.
pub(crate) fn file<'a>(content_type: &str, body: &'a [u8]) -> Option<Result<&'a [u8], String>> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let Some(boundary) = parameters.split(';').find_map(boundary) else {
        return Some(Err("the form has no boundary".into()));
    };
    let delimiter = format!("--{boundary}");
    let found = parts(body, delimiter.as_bytes()).find_map(|part| {
        let (head, content) = split_at(part, b"\r\n\r\n")?;
        is_file(&String::from_utf8_lossy(head)).then_some(content)
    });
    Some(found.ok_or_else(|| "the form has no part named 'file'".into()))
}

fn boundary(parameter: &str) -> Option<&str> {
    let (name, value) = parameter.trim().split_once('=')?;
    let value = value.trim_matches('"');
    (name.eq_ignore_ascii_case("boundary") && !value.is_empty()).then_some(value)
}

/// Whether these headers are those of the part `file`.
fn is_file(head: &str) -> bool {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("content-disposition"))
        .flat_map(|(_, value)| value.split(';'))
        .filter_map(|parameter| parameter.trim().split_once('='))
        .any(|(name, value)| name.eq_ignore_ascii_case("name") && value.trim_matches('"') == "file")
}

/// The parts between delimiters, which stand at the beginnings of lines.
fn parts<'a, 'd>(
    body: &'a [u8],
    delimiter: &'d [u8],
) -> impl Iterator<Item = &'a [u8]> + use<'a, 'd> {
    let mut rest = split_at(body, delimiter).map(|(_, rest)| rest);
    std::iter::from_fn(move || {
        let from = rest.take()?.strip_prefix(b"\r\n")?;
        let end = [b"\r\n", delimiter].concat();
        let (part, after) = split_at(from, &end)?;
        rest = Some(after);
        Some(part)
    })
}

/// What stands before and after the first `mark`.
fn split_at<'a>(bytes: &'a [u8], mark: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = bytes
        .windows(mark.len())
        .position(|window| window == mark)?;
    Some((bytes.get(..at)?, bytes.get(at + mark.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; boundary=\"--x y\"";

    #[test]
    fn the_file_among_other_parts() {
        let body = b"----x y\r\nContent-Disposition: form-data; name=\"pw\"\r\n\r\nsecret\r\n\
            ----x y\r\ncontent-disposition: form-data; name=\"file\"; filename=\"d.json\"\r\n\
            Content-Type: application/json\r\n\r\n{\r\n\r\n}\r\n----x y--\r\n";
        assert_eq!(file(TYPE, body), Some(Ok(b"{\r\n\r\n}".as_slice())));
    }

    #[test]
    fn what_is_no_such_form() {
        assert_eq!(file("application/json", b"{}"), None);
        assert_eq!(file("application/json; charset=utf-8", b"{}"), None);
        for body in [
            b"".as_slice(),
            b"----x y--\r\n",
            b"----x y\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\ncut off",
            b"----x y\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\n{}\r\n----x y--\r\n",
        ] {
            assert!(matches!(file(TYPE, body), Some(Err(_))), "{body:?}");
        }
        assert!(matches!(
            file("multipart/form-data; a=b", b""),
            Some(Err(_))
        ));
    }
}
