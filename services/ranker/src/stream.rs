//! One call of Rank, from its header to its last score.

use async_stream::try_stream;
use easel_proto::v1::{RankRequest, RankResponse, rank_request};
use easel_server::packages::Packages;
use easel_server::{picture, status};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use crate::embed::{Call, Embedder};
use crate::score::{cosine, pad};
use crate::{Stage, grpc};

/// Pictures of a call that are being scored; no other is read meanwhile.
const WINDOW: usize = 8;

/// What happens next in a call.
enum Next {
    Request(Result<Option<RankRequest>, Status>),
    Scored(Result<RankResponse, Status>),
}

/// The call's answers. All is done while they are polled: a caller that does not take them stops its own pictures, and one that goes away takes its
/// work along.
pub(crate) fn rank(
    packages: Packages<Stage>,
    call: Call,
    mut requests: Streaming<RankRequest>,
) -> impl Stream<Item = Result<RankResponse, Status>> {
    try_stream! {
        let header = header(requests.message().await?)?;
        let clip = grpc::clip(packages.find(header.package.as_ref())?)?;
        let caption = header.caption.ok_or_else(|| status::invalid("header.caption", "must be given"))?;
        let ids = pad("header.caption", &caption.ids, clip.shape)?;
        let embedder = Embedder::new(clip, call)?;
        let caption = embedder.text(ids).await?;
        let score = async |candidate: rank_request::Candidate| {
            let picture = picture::check("candidate.picture", candidate.picture)?;
            let embedding = embedder.picture(picture).await?;
            Ok(RankResponse { candidate: candidate.id, clip_score: cosine(&embedding, &caption) })
        };
        let mut scores = FuturesUnordered::new();
        let mut ended = false;
        while !(ended && scores.is_empty()) {
            let next = tokio::select! {
                biased;
                Some(scored) = scores.next() => Next::Scored(scored),
                request = requests.message(), if !ended && scores.len() < WINDOW => Next::Request(request),
            };
            match next {
                Next::Scored(scored) => yield scored?,
                Next::Request(request) => match request? {
                    Some(request) => scores.push(score(candidate(request)?)),
                    None => ended = true,
                },
            }
        }
    }
}

fn header(first: Option<RankRequest>) -> Result<rank_request::Header, Status> {
    match first.and_then(|request| request.message) {
        Some(rank_request::Message::Header(header)) => Ok(header),
        _ => Err(status::invalid("header", "must come first")),
    }
}

fn candidate(request: RankRequest) -> Result<rank_request::Candidate, Status> {
    match request.message {
        Some(rank_request::Message::Candidate(candidate)) => Ok(candidate),
        Some(rank_request::Message::Header(_)) => Err(status::invalid("header", "must come once")),
        None => Err(status::invalid("message", "must be given")),
    }
}
