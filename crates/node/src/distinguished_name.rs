//! Subjects of certificates as text, as RabbitMQ makes user names of them: RFC 4514, the last part
//! first, no blanks between parts.

use std::fmt::Write as _;
use x509_parser::prelude::{AttributeTypeAndValue, X509Name};

/// Short names of attributes. Others go by their number.
const SHORT: &[(&str, &str)] = &[
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "TITLE"),
    ("2.5.4.42", "GIVENNAME"),
    ("2.5.4.43", "INITIALS"),
    ("2.5.4.44", "GENERATIONQUALIFIER"),
    ("2.5.4.65", "PSEUDONYM"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "EMAILADDRESS"),
];

/// `CN=alice,OU=desk,O=shop`.
pub(crate) fn text(name: &X509Name<'_>) -> String {
    let parts = name.iter_rdn().map(|part| {
        let attributes: Vec<String> = part.iter().map(attribute).collect();
        attributes.join("+")
    });
    let mut parts: Vec<String> = parts.collect();
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let number = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(known, _)| *known == number);
    let name = short.map_or(number.as_str(), |(_, short)| short);
    match attribute.as_str() {
        Ok(value) => format!("{name}={}", escaped(value)),
        // No text that is known here: its bytes.
        Err(_) => {
            let mut text = format!("{name}=#");
            for byte in attribute.as_slice() {
                let _ = write!(text, "{byte:02x}");
            }
            text
        }
    }
}

/// Escapes as RFC 4514 says, and what is not printable ASCII too.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                text.push('\\');
                text.push(char::from(byte));
            }
            b' ' if at == 0 || at == last => text.push_str("\\ "),
            b'#' if at == 0 => text.push_str("\\#"),
            b' '..=b'}' => text.push(char::from(byte)),
            _ => {
                let _ = write!(text, "\\{byte:02X}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::prelude::FromDer;

    const CN: &[u8] = &[0x55, 4, 3];
    const O: &[u8] = &[0x55, 4, 10];
    const OU: &[u8] = &[0x55, 4, 11];
    /// An attribute without a short name: organizationIdentifier.
    const OTHER: &[u8] = &[0x55, 4, 97];

    fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag, u8::try_from(contents.len()).unwrap()];
        bytes.extend_from_slice(contents);
        bytes
    }

    /// Kind, tag and value of an attribute.
    type Attribute<'a> = (&'a [u8], u8, &'a [u8]);

    /// A name of parts, each of one or more attributes, as certificates hold it.
    fn name(parts: &[&[Attribute<'_>]]) -> Vec<u8> {
        let part = |attributes: &&[(&[u8], u8, &[u8])]| {
            let attributes = attributes.iter().flat_map(|(number, tag, value)| {
                der(0x30, &[der(6, number), der(*tag, value)].concat())
            });
            der(0x31, &attributes.collect::<Vec<u8>>())
        };
        der(0x30, &parts.iter().flat_map(part).collect::<Vec<u8>>())
    }

    #[test]
    fn subjects() {
        const UTF8: u8 = 12;
        const PRINTABLE: u8 = 19;
        const BMP: u8 = 30;
        let one = |value: &'static [u8]| name(&[&[(CN, UTF8, value)]]);
        for (encoded, expected) in [
            (
                name(&[&[(O, PRINTABLE, b"shop")], &[(CN, UTF8, b"alice")]]),
                "CN=alice,O=shop",
            ),
            (
                name(&[&[(O, UTF8, b"s")], &[(OU, UTF8, b"a"), (CN, UTF8, b"b")]]),
                "OU=a+CN=b,O=s",
            ),
            (name(&[]), ""),
            (one(b"a,b+c;d<e>f\\g\"h"), r#"CN=a\,b\+c\;d\<e\>f\\g\"h"#),
            (one(b"  a  "), r"CN=\  a \ "),
            (one(b" "), r"CN=\ "),
            (one(b"#1 #2"), r"CN=\#1 #2"),
            (one("J\u{fc}rgen\n".as_bytes()), r"CN=J\C3\BCrgen\0A"),
            (one(b""), "CN="),
            (name(&[&[(OTHER, UTF8, b"x")]]), "2.5.4.97=x"),
            (name(&[&[(CN, BMP, &[0, b'a'])]]), "CN=#0061"),
        ] {
            let (_, name) = X509Name::from_der(&encoded).unwrap();
            assert_eq!(text(&name), expected);
        }
    }
}
