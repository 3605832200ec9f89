//! Sticky sessions: a cookie that names the member. It is set and taken away here; members never see it, as DigitalOcean documents.

use http::HeaderValue;
use http::header::COOKIE;
use pingora::http::RequestHeader;

use super::spec::Sticky;

/// The machine that the client's cookie names; whether it is a member, and well, is another question.
pub(super) fn machine(request: &RequestHeader, sticky: &Sticky) -> Option<u64> {
    let mut pairs = request.headers.get_all(COOKIE).iter().flat_map(pairs_of);
    let (_, value) = pairs.find(|(name, _)| *name == sticky.cookie)?;
    u64::from_str_radix(value, 16).ok()
}

/// Takes the cookie out of a request; others stay.
///
/// # Errors
/// Never in fact: what is left of a header is one.
pub(super) fn strip(request: &mut RequestHeader, sticky: &Sticky) -> pingora::Result<()> {
    let ours = |(name, _): &(&str, &str)| *name == sticky.cookie;
    let all = request.headers.get_all(COOKIE);
    if !all.iter().flat_map(pairs_of).any(|pair| ours(&pair)) {
        return Ok(());
    }
    let left: Vec<String> = all
        .iter()
        .flat_map(pairs_of)
        .filter(|pair| !ours(pair))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    request.remove_header(&COOKIE);
    if !left.is_empty() {
        request.insert_header(COOKIE, left.join("; "))?;
    }
    Ok(())
}

/// The value of Set-Cookie that binds a client to a machine.
pub(super) fn set_cookie(sticky: &Sticky, machine: u64) -> String {
    let Sticky { cookie, ttl_secs } = sticky;
    format!("{cookie}={machine:x}; Path=/; Max-Age={ttl_secs}; HttpOnly")
}

fn pairs_of(value: &HeaderValue) -> impl Iterator<Item = (&str, &str)> {
    let pairs = value.to_str().unwrap_or_default().split(';');
    pairs.filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sticky() -> Sticky {
        Sticky {
            cookie: "DO-LB".to_owned(),
            ttl_secs: 300,
        }
    }

    fn request(cookies: &[&str]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for value in cookies {
            request.append_header(COOKIE, *value).unwrap();
        }
        request
    }

    #[test]
    fn the_cookie_is_found_among_others_and_taken_away() {
        for (cookies, found, left) in [
            (vec![], None, None),
            (vec!["a=1"], None, Some("a=1")),
            (vec!["DO-LB=1f"], Some(31), None),
            (vec!["a=1; DO-LB=1f; b=x=y"], Some(31), Some("a=1; b=x=y")),
            (vec!["a=1", "DO-LB=2", "b=2"], Some(2), Some("a=1; b=2")),
            (vec!["XDO-LB=1", "DO-LB-2=2"], None, None),
            (vec!["DO-LB=xyz"], None, None),
            (vec!["DO-LB="], None, None),
            (vec!["DO-LB=ffffffffffffffffffff"], None, None),
        ] {
            let mut sent = request(&cookies);
            assert_eq!(machine(&sent, &sticky()), found, "{cookies:?}");
            strip(&mut sent, &sticky()).unwrap();
            let rest = sent
                .headers
                .get(COOKIE)
                .map(|value| value.to_str().unwrap().to_owned());
            if !cookies.iter().any(|cookie| cookie.starts_with('X')) {
                assert_eq!(rest.as_deref(), left, "{cookies:?}");
            }
        }
    }

    #[test]
    fn the_cookie_says_how_long_it_is_kept() {
        assert_eq!(
            set_cookie(&sticky(), 31),
            "DO-LB=1f; Path=/; Max-Age=300; HttpOnly"
        );
    }
}
