//! Requests with their own words and answers.

use bytes::Bytes;

use super::{Client, ClientError};
use crate::coordination::protocol::CoordinationError;
use crate::coordination::protocol::{
    Acl, CreateMode, MemberStatus, Op, OpResult, Request, Response, Stat,
};

impl Client {
    /// Makes a node that everyone may use. Returns its path, numbered if it is sequential.
    pub async fn create(
        &self,
        path: &str,
        data: Vec<u8>,
        mode: CreateMode,
    ) -> Result<(String, Stat), ClientError> {
        let op = Op::Create { path: path.to_owned(), data, mode, acl: Acl::open() };
        match self.request(Request::Write(op)).await? {
            Response::Written(OpResult::Created { path, stat }) => Ok((path, stat)),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// Makes a persistent node without data unless it is there already.
    pub async fn ensure(&self, path: &str) -> Result<(), ClientError> {
        loop {
            match self.create(path, Vec::new(), CreateMode::Persistent).await {
                Ok(_) | Err(ClientError::Refused(CoordinationError::NodeExists { .. })) => {
                    return Ok(());
                }
                // Whether it was made or not, it may be asked for again.
                Err(ClientError::Unknown) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a node without children.
    pub async fn delete(&self, path: &str, version: Option<i32>) -> Result<(), ClientError> {
        let op = Op::Delete { path: path.to_owned(), version };
        self.request(Request::Write(op)).await.map(drop)
    }

    /// Removes a node and everything below it.
    pub async fn delete_recursive(
        &self,
        path: &str,
        version: Option<i32>,
    ) -> Result<(), ClientError> {
        let op = Op::DeleteRecursive { path: path.to_owned(), version };
        self.request(Request::Write(op)).await.map(drop)
    }

    /// Replaces a node's data.
    pub async fn set(
        &self,
        path: &str,
        data: Vec<u8>,
        version: Option<i32>,
    ) -> Result<Stat, ClientError> {
        let op = Op::SetData { path: path.to_owned(), data, version };
        match self.request(Request::Write(op)).await? {
            Response::Written(OpResult::Set { stat }) => Ok(stat),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// A node's data and stat, or `None` if there is no such node.
    pub async fn get(&self, path: &str) -> Result<Option<(Bytes, Stat)>, ClientError> {
        let request = Request::Get { path: path.to_owned(), watch: false, linearizable: false };
        match self.request(request).await {
            Ok(Response::Data { data, stat }) => Ok(Some((data.into(), stat))),
            Ok(_) => Err(ClientError::WrongAnswer),
            Err(ClientError::Refused(CoordinationError::NoNode { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A node's stat, or `None` if there is no such node.
    pub async fn exists(&self, path: &str) -> Result<Option<Stat>, ClientError> {
        let request = Request::Exists { path: path.to_owned(), watch: false, linearizable: false };
        match self.request(request).await? {
            Response::Exists(stat) => Ok(stat),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// The names of a node's children, sorted.
    pub async fn children(&self, path: &str) -> Result<Vec<String>, ClientError> {
        let path = path.to_owned();
        let request = Request::GetChildren { path, watch: false, linearizable: false };
        match self.request(request).await? {
            Response::Children { names, .. } => Ok(names),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// Does all of `ops` in one zxid, or none.
    pub async fn multi(&self, ops: Vec<Op>) -> Result<Vec<OpResult>, ClientError> {
        match self.request(Request::Multi(ops)).await? {
            Response::Multi(results) => Ok(results),
            _ => Err(ClientError::WrongAnswer),
        }
    }

    /// Completes when the member has applied all that was committed when it was asked.
    pub async fn sync(&self) -> Result<(), ClientError> {
        self.request(Request::Sync).await.map(drop)
    }

    /// The figures of the member that answers.
    pub async fn status(&self) -> Result<MemberStatus, ClientError> {
        match self.request(Request::Status).await? {
            Response::Status(status) => Ok(*status),
            _ => Err(ClientError::WrongAnswer),
        }
    }
}
