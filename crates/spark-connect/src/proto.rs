//! The Spark Connect messages and fields needed here.
//!
//! Names and numbers are those of Spark 4.2's `spark/connect/base.proto`, `commands.proto` and `relations.proto`, and
//! for errors, of `google/rpc/status.proto` and `error_details.proto`. They are declared by hand, so that the build
//! does not need `protoc`. Undeclared fields are ignored when a message is decoded.

use std::collections::BTreeMap;

/// A call with one response.
pub trait Unary: prost::Message + Default + Clone + 'static {
    /// Service and method.
    const PATH: &'static str;
    type Answer: prost::Message + Default + 'static;
}

/// A call with a stream of [`ExecutePlanResponse`].
pub trait Streamed: prost::Message + Default + 'static {
    const PATH: &'static str;
}

// == base.proto: calls

#[derive(Clone, PartialEq, prost::Message)]
pub struct UserContext {
    #[prost(string, tag = "1")]
    pub user_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AnalyzePlanRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(string, optional, tag = "17")]
    pub client_observed_server_side_session_id: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(string, optional, tag = "3")]
    pub client_type: Option<String>,
    #[prost(oneof = "Analyze", tags = "10")]
    pub analyze: Option<Analyze>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Analyze {
    #[prost(message, tag = "10")]
    SparkVersion(Empty),
}

/// Any message whose presence is all that matters.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AnalyzePlanResponse {
    #[prost(string, tag = "15")]
    pub server_side_session_id: String,
    #[prost(message, optional, tag = "8")]
    pub spark_version: Option<SparkVersion>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SparkVersion {
    #[prost(string, tag = "1")]
    pub version: String,
}

impl Unary for AnalyzePlanRequest {
    const PATH: &'static str = "/spark.connect.SparkConnectService/AnalyzePlan";
    type Answer = AnalyzePlanResponse;
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(string, optional, tag = "8")]
    pub client_observed_server_side_session_id: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(message, optional, tag = "3")]
    pub operation: Option<ConfigOperation>,
    #[prost(string, optional, tag = "4")]
    pub client_type: Option<String>,
}

/// `ConfigRequest.Operation`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigOperation {
    #[prost(oneof = "ConfigOp", tags = "1, 4")]
    pub op_type: Option<ConfigOp>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ConfigOp {
    #[prost(message, tag = "1")]
    Set(ConfigSet),
    #[prost(message, tag = "4")]
    GetOption(ConfigGetOption),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigSet {
    #[prost(message, repeated, tag = "1")]
    pub pairs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigGetOption {
    #[prost(string, repeated, tag = "1")]
    pub keys: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ConfigResponse {
    #[prost(string, tag = "4")]
    pub server_side_session_id: String,
    #[prost(message, repeated, tag = "2")]
    pub pairs: Vec<KeyValue>,
}

impl Unary for ConfigRequest {
    const PATH: &'static str = "/spark.connect.SparkConnectService/Config";
    type Answer = ConfigResponse;
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct InterruptRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(string, optional, tag = "7")]
    pub client_observed_server_side_session_id: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(string, optional, tag = "3")]
    pub client_type: Option<String>,
    /// `INTERRUPT_TYPE_ALL` is 1, `INTERRUPT_TYPE_OPERATION_ID` 3.
    #[prost(int32, tag = "4")]
    pub interrupt_type: i32,
    #[prost(string, optional, tag = "6")]
    pub operation_id: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct InterruptResponse {
    #[prost(string, repeated, tag = "2")]
    pub interrupted_ids: Vec<String>,
}

impl Unary for InterruptRequest {
    const PATH: &'static str = "/spark.connect.SparkConnectService/Interrupt";
    type Answer = InterruptResponse;
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReleaseExecuteRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(string, optional, tag = "7")]
    pub client_observed_server_side_session_id: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(string, tag = "3")]
    pub operation_id: String,
    #[prost(string, optional, tag = "4")]
    pub client_type: Option<String>,
    #[prost(message, optional, tag = "5")]
    pub release_all: Option<Empty>,
}

impl Unary for ReleaseExecuteRequest {
    const PATH: &'static str = "/spark.connect.SparkConnectService/ReleaseExecute";
    type Answer = Empty;
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReleaseSessionRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(string, optional, tag = "3")]
    pub client_type: Option<String>,
}

impl Unary for ReleaseSessionRequest {
    const PATH: &'static str = "/spark.connect.SparkConnectService/ReleaseSession";
    type Answer = Empty;
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FetchErrorDetailsRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(string, optional, tag = "5")]
    pub client_observed_server_side_session_id: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(string, tag = "3")]
    pub error_id: String,
    #[prost(string, optional, tag = "4")]
    pub client_type: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FetchErrorDetailsResponse {
    #[prost(int32, optional, tag = "1")]
    pub root_error_idx: Option<i32>,
    #[prost(message, repeated, tag = "2")]
    pub errors: Vec<ErrorDetails>,
}

/// `FetchErrorDetailsResponse.Error`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ErrorDetails {
    #[prost(string, tag = "2")]
    pub message: String,
    #[prost(int32, optional, tag = "4")]
    pub cause_idx: Option<i32>,
    #[prost(message, optional, tag = "5")]
    pub spark_throwable: Option<SparkThrowable>,
}

/// `FetchErrorDetailsResponse.SparkThrowable`
#[derive(Clone, PartialEq, prost::Message)]
pub struct SparkThrowable {
    #[prost(string, optional, tag = "1")]
    pub error_class: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub sql_state: Option<String>,
}

impl Unary for FetchErrorDetailsRequest {
    const PATH: &'static str = "/spark.connect.SparkConnectService/FetchErrorDetails";
    type Answer = FetchErrorDetailsResponse;
}

// == base.proto: executions

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecutePlanRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(string, optional, tag = "8")]
    pub client_observed_server_side_session_id: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(string, optional, tag = "6")]
    pub operation_id: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub plan: Option<Plan>,
    #[prost(string, optional, tag = "4")]
    pub client_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub request_options: Vec<RequestOption>,
}

impl Streamed for ExecutePlanRequest {
    const PATH: &'static str = "/spark.connect.SparkConnectService/ExecutePlan";
}

/// `ExecutePlanRequest.RequestOption`
#[derive(Clone, PartialEq, prost::Message)]
pub struct RequestOption {
    #[prost(message, optional, tag = "1")]
    pub reattach_options: Option<ReattachOptions>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReattachOptions {
    #[prost(bool, tag = "1")]
    pub reattachable: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReattachExecuteRequest {
    #[prost(string, tag = "1")]
    pub session_id: String,
    #[prost(string, optional, tag = "6")]
    pub client_observed_server_side_session_id: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub user_context: Option<UserContext>,
    #[prost(string, tag = "3")]
    pub operation_id: String,
    #[prost(string, optional, tag = "4")]
    pub client_type: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub last_response_id: Option<String>,
}

impl Streamed for ReattachExecuteRequest {
    const PATH: &'static str = "/spark.connect.SparkConnectService/ReattachExecute";
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExecutePlanResponse {
    #[prost(string, tag = "15")]
    pub server_side_session_id: String,
    #[prost(string, tag = "13")]
    pub response_id: String,
    #[prost(oneof = "Response", tags = "2, 8, 9, 11, 14")]
    pub response_type: Option<Response>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Response {
    #[prost(message, tag = "2")]
    ArrowBatch(ArrowBatch),
    #[prost(message, tag = "8")]
    StreamStarted(WriteStreamOperationStartResult),
    #[prost(message, tag = "9")]
    Query(StreamingQueryCommandResult),
    #[prost(message, tag = "11")]
    Queries(StreamingQueryManagerCommandResult),
    #[prost(message, tag = "14")]
    ResultComplete(Empty),
}

/// `ExecutePlanResponse.ArrowBatch`, without the rows.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ArrowBatch {
    #[prost(int64, tag = "1")]
    pub row_count: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Plan {
    #[prost(oneof = "PlanOp", tags = "1, 2")]
    pub op_type: Option<PlanOp>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum PlanOp {
    #[prost(message, tag = "1")]
    Root(Relation),
    #[prost(message, tag = "2")]
    Command(Command),
}

// == commands.proto

#[derive(Clone, PartialEq, prost::Message)]
pub struct Command {
    #[prost(oneof = "CommandType", tags = "3, 5, 6, 7, 9")]
    pub command_type: Option<CommandType>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum CommandType {
    #[prost(message, tag = "3")]
    CreateDataframeView(CreateDataFrameViewCommand),
    #[prost(message, tag = "5")]
    Sql(SqlCommand),
    #[prost(message, tag = "6")]
    StartStream(WriteStreamOperationStart),
    #[prost(message, tag = "7")]
    Query(StreamingQueryCommand),
    #[prost(message, tag = "9")]
    Queries(StreamingQueryManagerCommand),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SqlCommand {
    #[prost(message, optional, tag = "6")]
    pub input: Option<Relation>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CreateDataFrameViewCommand {
    #[prost(message, optional, tag = "1")]
    pub input: Option<Relation>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(bool, tag = "4")]
    pub replace: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteStreamOperationStart {
    #[prost(message, optional, tag = "1")]
    pub input: Option<Relation>,
    #[prost(string, tag = "2")]
    pub format: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub options: BTreeMap<String, String>,
    #[prost(oneof = "TriggerType", tags = "5, 6")]
    pub trigger: Option<TriggerType>,
    #[prost(string, tag = "9")]
    pub output_mode: String,
    #[prost(string, tag = "10")]
    pub query_name: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum TriggerType {
    #[prost(string, tag = "5")]
    ProcessingTimeInterval(String),
    #[prost(bool, tag = "6")]
    AvailableNow(bool),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct WriteStreamOperationStartResult {
    #[prost(message, optional, tag = "1")]
    pub query_id: Option<StreamingQueryInstanceId>,
    #[prost(string, tag = "2")]
    pub name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamingQueryInstanceId {
    /// The query's id, stored in its checkpoint.
    #[prost(string, tag = "1")]
    pub id: String,
    /// The id of this run of the query.
    #[prost(string, tag = "2")]
    pub run_id: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamingQueryCommand {
    #[prost(message, optional, tag = "1")]
    pub query_id: Option<StreamingQueryInstanceId>,
    #[prost(oneof = "QueryCommand", tags = "2, 3, 4, 5, 6, 8, 9")]
    pub command: Option<QueryCommand>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum QueryCommand {
    #[prost(bool, tag = "2")]
    Status(bool),
    #[prost(bool, tag = "3")]
    LastProgress(bool),
    #[prost(bool, tag = "4")]
    RecentProgress(bool),
    #[prost(bool, tag = "5")]
    Stop(bool),
    #[prost(bool, tag = "6")]
    ProcessAllAvailable(bool),
    #[prost(bool, tag = "8")]
    Exception(bool),
    #[prost(message, tag = "9")]
    AwaitTermination(AwaitTermination),
}

/// `StreamingQueryCommand.AwaitTerminationCommand`
#[derive(Clone, PartialEq, prost::Message)]
pub struct AwaitTermination {
    #[prost(int64, optional, tag = "2")]
    pub timeout_ms: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamingQueryCommandResult {
    #[prost(oneof = "QueryResult", tags = "2, 3, 5, 6")]
    pub result_type: Option<QueryResult>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum QueryResult {
    #[prost(message, tag = "2")]
    Status(StatusResult),
    #[prost(message, tag = "3")]
    RecentProgress(RecentProgressResult),
    #[prost(message, tag = "5")]
    Exception(ExceptionResult),
    #[prost(message, tag = "6")]
    AwaitTermination(AwaitTerminationResult),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResult {
    #[prost(string, tag = "1")]
    pub status_message: String,
    #[prost(bool, tag = "2")]
    pub is_data_available: bool,
    #[prost(bool, tag = "3")]
    pub is_trigger_active: bool,
    #[prost(bool, tag = "4")]
    pub is_active: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RecentProgressResult {
    #[prost(string, repeated, tag = "5")]
    pub recent_progress_json: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExceptionResult {
    #[prost(string, optional, tag = "1")]
    pub exception_message: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub error_class: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct AwaitTerminationResult {
    #[prost(bool, tag = "1")]
    pub terminated: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamingQueryManagerCommand {
    #[prost(bool, optional, tag = "1")]
    pub active: Option<bool>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamingQueryManagerCommandResult {
    #[prost(message, optional, tag = "1")]
    pub active: Option<ActiveResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ActiveResult {
    #[prost(message, repeated, tag = "1")]
    pub active_queries: Vec<StreamingQueryInstance>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamingQueryInstance {
    #[prost(message, optional, tag = "1")]
    pub id: Option<StreamingQueryInstanceId>,
    #[prost(string, optional, tag = "2")]
    pub name: Option<String>,
}

// == relations.proto

#[derive(Clone, PartialEq, prost::Message)]
pub struct Relation {
    #[prost(oneof = "RelType", tags = "2, 10, 14, 29")]
    pub rel_type: Option<RelType>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum RelType {
    #[prost(message, tag = "2")]
    Read(Read),
    #[prost(message, tag = "10")]
    Sql(Sql),
    #[prost(message, boxed, tag = "14")]
    Deduplicate(Box<Deduplicate>),
    #[prost(message, boxed, tag = "29")]
    CollectMetrics(Box<CollectMetrics>),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Read {
    #[prost(message, optional, tag = "2")]
    pub data_source: Option<DataSource>,
    #[prost(bool, tag = "3")]
    pub is_streaming: bool,
}

/// `Read.DataSource`
#[derive(Clone, PartialEq, prost::Message)]
pub struct DataSource {
    #[prost(string, optional, tag = "1")]
    pub format: Option<String>,
    /// As DDL: `a INT, b STRING`.
    #[prost(string, optional, tag = "2")]
    pub schema: Option<String>,
    #[prost(btree_map = "string, string", tag = "3")]
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Sql {
    #[prost(string, tag = "1")]
    pub query: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Deduplicate {
    #[prost(message, optional, boxed, tag = "1")]
    pub input: Option<Box<Relation>>,
    #[prost(string, repeated, tag = "2")]
    pub column_names: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct CollectMetrics {
    #[prost(message, optional, boxed, tag = "1")]
    pub input: Option<Box<Relation>>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "3")]
    pub metrics: Vec<Expression>,
}

// == expressions.proto

#[derive(Clone, PartialEq, prost::Message)]
pub struct Expression {
    #[prost(oneof = "ExprType", tags = "4")]
    pub expr_type: Option<ExprType>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum ExprType {
    #[prost(message, tag = "4")]
    ExpressionString(ExpressionString),
}

/// `Expression.ExpressionString`: SQL.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExpressionString {
    #[prost(string, tag = "1")]
    pub expression: String,
}

// == google.rpc: error details

/// `google.rpc.Status`
#[derive(Clone, PartialEq, prost::Message)]
pub struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<Any>,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

/// `google.rpc.ErrorInfo`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ErrorInfo {
    #[prost(btree_map = "string, string", tag = "3")]
    pub metadata: BTreeMap<String, String>,
}
