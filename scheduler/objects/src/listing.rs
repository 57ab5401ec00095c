//! Listings: pages that are checked, because a page that is missing looks like a folder with less in it.

use aws_sdk_s3::config::interceptors::AfterDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::EncodingType;

use crate::error::BROKEN_LISTING;
use crate::object::{After, Listed, Page};
use crate::retry::{Budget, Failure, attempt};
use crate::wire::{decode, unquoted, unsigned};
use crate::{Error, Objects, S3Uri};

/// Empty pages in a row that are followed; endpoints skip deleted keys that way.
const EMPTY_PAGES_MAX: usize = 1_000;

impl Objects {
    /// One page of the objects whose key begins with `prefix.key`; `after` is [`Page::next`] of the page before.
    ///
    /// # Errors
    /// [`Error::NotFound`] (no such bucket), [`Error::Denied`], [`Error::Refused`] (code `BrokenListing` when pages contradict themselves
    /// or each other), [`Error::Misdirected`], [`Error::Unavailable`].
    pub async fn list_page(&self, prefix: &S3Uri, after: Option<After>) -> Result<Page, Error> {
        let mut budget = Budget::new(prefix, self.patience());
        loop {
            let request = self
                .current()
                .list_objects_v2()
                .bucket(&prefix.bucket)
                .prefix(&prefix.key)
                // XML cannot carry every key.
                .encoding_type(EncodingType::Url)
                .set_continuation_token(after.as_ref().map(|after| after.token.clone()));
            let request = request.customize().interceptor(WholeBody);
            let failure = match attempt(prefix, self.attempt_timeout(), request.send()).await {
                Ok(answer) => match read(&answer, &prefix.key, after.as_ref()) {
                    Ok(page) => return Ok(page),
                    Err(detail) => Failure::lasting(Error::Refused {
                        uri: prefix.clone(),
                        status: 200,
                        code: BROKEN_LISTING.to_owned(),
                        detail,
                    }),
                },
                Err(failure) => failure,
            };
            budget.spend(failure).await?;
        }
    }
}

/// Refuses an answer whose XML breaks off: the parser of the SDK takes the end of the text for the end of the list.
#[derive(Debug)]
struct WholeBody;

impl Intercept for WholeBody {
    fn name(&self) -> &'static str {
        "WholeBody"
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let answer = context.response();
        let body = answer.body().bytes().unwrap_or_default().trim_ascii_end();
        match answer.status().is_success() && !body.ends_with(b"ListBucketResult>") {
            true => Err("the listing breaks off".into()),
            false => Ok(()),
        }
    }
}

/// The page that an answer holds, if it can be the next one.
fn read(answer: &ListObjectsV2Output, prefix: &str, after: Option<&After>) -> Result<Page, String> {
    let encoded = answer.encoding_type() == Some(&EncodingType::Url);
    let listed = |object: &aws_sdk_s3::types::Object| {
        let key = object.key().unwrap_or_default();
        Listed {
            key: if encoded { decode(key) } else { key.to_owned() },
            bytes: unsigned(object.size()),
            etag: unquoted(object.e_tag()),
        }
    };
    let objects: Vec<Listed> = answer.contents().iter().map(listed).collect();
    let said = answer.key_count().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    if said > objects.len() + answer.common_prefixes().len() {
        return Err(format!("a page of {said} keys holds {}", objects.len()));
    }
    let mut last = after.and_then(|after| after.last.as_deref());
    for Listed { key, .. } in &objects {
        if !key.starts_with(prefix) {
            return Err(format!("key `{key}` does not begin with `{prefix}`"));
        }
        if last.is_some_and(|last| last >= key.as_str()) {
            let last = last.unwrap_or_default();
            return Err(format!("key `{key}` comes after `{last}`: the keys are not in order"));
        }
        last = Some(key);
    }
    let last = last.map(str::to_owned);
    let token = answer.next_continuation_token().filter(|token| !token.is_empty());
    let next = match (answer.is_truncated(), token) {
        (Some(false), None) => None,
        (Some(true), Some(token)) => Some(following(token, last, !objects.is_empty(), after)?),
        (Some(true), None) => return Err("a page with more to come has no token".to_owned()),
        (_, Some(_)) => {
            return Err("a page has a token and does not say that there is more to come".to_owned());
        }
        (None, None) => return Err("a page does not say whether it is the last".to_owned()),
    };
    Ok(Page { objects, next })
}

/// The place after a page, if the listing goes on at all.
fn following(
    token: &str,
    last: Option<String>,
    grew: bool,
    after: Option<&After>,
) -> Result<After, String> {
    let mut seen = match after {
        Some(after) if !grew => after.seen.clone(),
        _ => Vec::new(),
    };
    let again = after.is_some_and(|after| after.token == token) || seen.iter().any(|s| s == token);
    if again || seen.len() >= EMPTY_PAGES_MAX {
        return Err("the listing goes in a circle: its tokens come again".to_owned());
    }
    seen.push(token.to_owned());
    Ok(After { token: token.to_owned(), last, seen })
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::Object;

    use super::*;

    fn answer(keys: &[&str], truncated: Option<bool>, token: Option<&str>) -> ListObjectsV2Output {
        let contents = keys.iter().map(|key| Object::builder().key(*key).build()).collect();
        ListObjectsV2Output::builder()
            .set_contents(Some(contents))
            .set_is_truncated(truncated)
            .set_next_continuation_token(token.map(str::to_owned))
            .build()
    }

    #[test]
    fn pages_that_contradict_themselves_are_refused() {
        let words = |answer: &ListObjectsV2Output| read(answer, "p/", None).unwrap_err();
        assert!(words(&answer(&["p/a"], Some(true), None)).contains("no token"));
        assert!(words(&answer(&["p/a"], Some(true), Some(""))).contains("no token"));
        assert!(words(&answer(&["p/a"], Some(false), Some("t"))).contains("has a token"));
        assert!(words(&answer(&["p/a"], None, Some("t"))).contains("has a token"));
        assert!(words(&answer(&["p/a"], None, None)).contains("the last"));
        assert!(words(&answer(&["p/b", "p/a"], Some(false), None)).contains("order"));
        assert!(words(&answer(&["p/a", "p/a"], Some(false), None)).contains("order"));
        assert!(words(&answer(&["q/a"], Some(false), None)).contains("begin"));
        let mut short = answer(&["p/a"], Some(false), None);
        short.key_count = Some(2);
        assert_eq!(words(&short), "a page of 2 keys holds 1");
    }

    #[test]
    fn pages_that_contradict_each_other_are_refused() {
        let page = |keys: &[&str], token, after: Option<&After>| {
            read(&answer(keys, Some(true), Some(token)), "", after)
        };
        let first = page(&["a", "b"], "1", None).unwrap().next.unwrap();
        assert!(page(&["c"], "1", Some(&first)).unwrap_err().contains("circle"));
        assert!(page(&["b"], "2", Some(&first)).unwrap_err().contains("order"));
        let second = page(&[], "2", Some(&first)).unwrap().next.unwrap();
        let third = page(&[], "3", Some(&second)).unwrap().next.unwrap();
        assert!(page(&[], "2", Some(&third)).unwrap_err().contains("circle"));
        assert!(page(&["b"], "4", Some(&third)).unwrap_err().contains("order"));
        let end = read(&answer(&["c"], Some(false), None), "", Some(&third)).unwrap();
        assert_eq!((end.objects.len(), end.next), (1, None));
    }
}
