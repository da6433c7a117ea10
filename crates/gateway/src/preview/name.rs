//! The names of previews: `<app>.<task>.localhost`, and what a request says about where it wants to go. Pure.
//!
//! The task comes last because browsers take the last label before a top-level domain for the site: cookies and
//! storage of two tasks never meet, and the apps of one task may share theirs (`Domain=<task>.localhost`).

use std::fmt;

use hyper::{
    HeaderMap, Uri,
    header::{self, HeaderValue},
};

use super::refusal::Refusal;

/// Which app of which task.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PreviewName {
    /// An app's or a service's name, or the number of a port.
    pub app: String,
    /// A task's name or id.
    pub task: String,
}

impl PreviewName {
    /// The host name in a browser.
    pub fn host(&self) -> String {
        format!("{}.{}.localhost", self.app, self.task)
    }

    /// The URL in a browser, for a proxy on this port.
    pub fn url(&self, port: u16) -> String {
        format!("http://{}:{port}/", self.host())
    }
}

impl fmt::Display for PreviewName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host())
    }
}

/// Where a request wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To the proxy itself: by address, or as `localhost`.
    Index,
    /// `<task>.localhost`: the list of its apps.
    Task(String),
    /// An app.
    App(PreviewName),
}

/// A place with the words that named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) place: Place,
    /// Lower case, without the port.
    pub(crate) host: String,
    /// As the client wrote it: host and port.
    pub(crate) authority: String,
    /// 80 without one.
    pub(crate) port: u16,
}

impl Asked {
    /// Of a request: from its one Host field or `:authority`; an absolute form has to say the same.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap) -> Result<Self, Refusal> {
        if let Some(scheme) = uri.scheme_str().filter(|scheme| *scheme != "http") {
            return Err(Refusal::NotAProxy { text: format!("{scheme}://…") });
        }
        let mut fields = headers.get_all(header::HOST).iter();
        let by_host = fields.next().map(HeaderValue::as_bytes).map(String::from_utf8_lossy);
        if fields.next().is_some() {
            return Err(Refusal::Malformed { what: "it has several Host fields" });
        }
        let by_uri = uri.authority().map(|authority| Self::parse(authority.as_str())).transpose()?;
        let by_host = by_host.map(|text| Self::parse(&text)).transpose()?;
        match (by_uri, by_host) {
            (Some(uri), Some(host)) if (&uri.host, uri.port) != (&host.host, host.port) => {
                Err(Refusal::Malformed { what: "its Host field and its address name different hosts" })
            }
            (Some(asked), _) | (None, Some(asked)) => Ok(asked),
            (None, None) => Err(Refusal::Malformed { what: "it has no Host field" }),
        }
    }

    fn parse(text: &str) -> Result<Self, Refusal> {
        let not_here = || Refusal::NotHere { host: text.chars().take(255).collect() };
        let (host, port) = match text.rfind(':') {
            Some(at) if !text[at..].contains(']') => {
                let digits = &text[at + 1..];
                if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(not_here());
                }
                (&text[..at], digits.parse().map_err(|_| not_here())?)
            }
            _ => (text, 80),
        };
        let host = host.to_ascii_lowercase();
        let asked = |place| Ok(Self { place, host: host.clone(), authority: text.to_owned(), port });
        if matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]") {
            return asked(Place::Index);
        }
        let name = host.strip_suffix('.').unwrap_or(&host).strip_suffix(".localhost").ok_or_else(not_here)?;
        let labels: Vec<&str> = name.split('.').collect();
        if host.len() > 253 || !labels.iter().all(|label| is_label(label)) {
            return Err(not_here());
        }
        match labels.as_slice() {
            [task] => asked(Place::Task((*task).to_owned())),
            // What stands before the app is the app's own business: one that serves many tenants by name.
            [.., app, task] => {
                asked(Place::App(PreviewName { app: (*app).to_owned(), task: (*task).to_owned() }))
            }
            [] => Err(not_here()),
        }
    }

    /// The task's own site: `<task>.localhost`.
    pub(crate) fn site(&self) -> Option<String> {
        match &self.place {
            Place::Index => None,
            Place::Task(task) | Place::App(PreviewName { task, .. }) => Some(format!("{task}.localhost")),
        }
    }
}

/// One label of a host name; an underscore is no host's, but browsers send it.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<Place> {
        Asked::parse(text).ok().map(|asked| asked.place)
    }

    #[test]
    fn names_lead_to_apps_and_nothing_else_leads_anywhere() {
        let app = |app: &str, task: &str| {
            Some(Place::App(PreviewName { app: app.to_owned(), task: task.to_owned() }))
        };
        assert_eq!(place("web.fix-login.localhost:7878"), app("web", "fix-login"));
        assert_eq!(place("WEB.Fix-Login.LocalHost"), app("web", "fix-login"));
        assert_eq!(place("web.fix.localhost.:7878"), app("web", "fix"));
        assert_eq!(place("3000.fix.localhost:7878"), app("3000", "fix"));
        assert_eq!(place("tenant.web.fix.localhost:7878"), app("web", "fix"));
        assert_eq!(place("fix.localhost:7878"), Some(Place::Task("fix".to_owned())));
        for text in ["localhost", "localhost:7878", "127.0.0.1:7878", "[::1]:7878", "[::1]"] {
            assert_eq!(place(text), Some(Place::Index), "{text}");
        }
        for text in [
            "",
            ":7878",
            "evil.com",
            "localhost.evil.com",
            "web.fix.localhost.evil.com:7878",
            "evil.com:80:7878",
            "web.fix.localhost:",
            "web.fix.localhost:99999",
            "web.fix.localhost:+80",
            "user@web.fix.localhost",
            "web..localhost",
            ".localhost",
            "web.fix.localhost..",
            "web fix.localhost",
            "wéb.fix.localhost",
            "web%2e.fix.localhost",
            "0.0.0.0:7878",
            "192.168.1.2:7878",
            "127.0.0.2:7878",
            "[::]:7878",
            "[::1",
            "web.fix.test",
            "xlocalhost",
        ] {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
