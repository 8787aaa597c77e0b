"""The ground under every setting: frozen models, process settings, secrets.

``Settings`` is the only place that reads the environment. Secrets come from the environment or a file, never from a
flag, and print as asterisks.
"""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from crrg.config.redaction import keep_out_of_logs
from crrg.config.secret_key import check_secret_key, read_secret_key
from crrg.config.setting_faults import check_names, setting_fault
from crrg.errors import ConfigError

FLAG_ROOT = "CRRG_FLAG_ROOT"
"""Variable in which a command hands its flag ``--root`` to itself and its children: a flag wins over the TOML file."""
CORES_VARIABLE = "CRRG_CORES"
"""How many cores a process may take, where it is one of several that share a machine."""
OTHER_SECRETS = (
    "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PREFECT_API_AUTH_STRING",
    "PREFECT_API_KEY", "PREFECT_SERVER_API_AUTH_STRING", "RAY_AUTH_TOKEN",
)  # fmt: skip
"""Variables of libraries that this program does not use itself but must not log."""
_SECRET_BESIDE = {
    "s3_endpoint": ("CRRG_S3_ENDPOINT", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "mlflow_tracking_uri": ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
    "mlflow_public_url": ("CRRG_MLFLOW_PUBLIC_URL", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"),
}
"""Setting to its variable, and those in which a password belongs that stands in its address."""
ATTRIBUTE = re.compile(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", re.MULTILINE)
"""One field in the `Attributes` of a docstring, with the lines that go on."""
NUM_CONNECTIONS = 64
"""Requests that a process may have with a store at a time: all its readers and writers."""
LEAST_MEMORY_MIB = 1536
"""Less than this the libraries alone would exceed before a film is read."""
Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["exact", "fast"]
Compat = Literal["none", "rgrg"]
Preset = Literal["tiny", "small", "base"]
Recipe = Literal["crrg", "paper"]
Stage = Literal["detector", "selector", "generator", "clip", "joint"]
Encryption = Literal["", "AES256", "aws:kms"]
STAGES: tuple[Stage, ...] = ("detector", "selector", "generator", "clip")
"""The four parts of a bundle, each named after the stage that makes it, in the order of their training."""
TRAINABLE: tuple[Stage, ...] = (*STAGES, "joint")
"""Everything that can be trained; ``joint`` makes another clip part."""


def describe_form(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Put into a form's JSON schema what its docstring says of it and of each field: the help in the web page.

    Args:
        schema: Schema of the form; changed.
        model: The form, with a Google docstring.
    """
    about, _, _ = inspect.cleandoc(model.__doc__ or "").partition("\n\nAttributes:\n")
    schema["description"] = _one_line(about)
    for name, text in field_help(model).items():
        if name in schema.get("properties", {}):
            schema["properties"][name]["description"] = text


def field_help(model: type[BaseModel]) -> dict[str, str]:
    """Return what a model's docstring says of each of its fields, a line each."""
    _, _, attributes = inspect.cleandoc(model.__doc__ or "").partition("\n\nAttributes:\n")
    return {name: _one_line(text) for name, text in ATTRIBUTE.findall(attributes)}


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


class FrozenConfig(BaseModel):
    """A model that cannot change and refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=describe_form)


class GrownConfig(FrozenConfig):
    """Settings that gained fields after models were trained with them.

    A later field is not written while it says nothing (0, false), so that what was written before is found again.
    """

    LATER_FIELDS: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_later_fields(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        written: dict[str, Any] = dump(self)
        return {name: value for name, value in written.items() if value or name not in self.LATER_FIELDS}


class StorageSettings(FrozenConfig):
    """How to reach an S3-compatible store, and in whose name; of a local root only the latter counts.

    Attributes:
        endpoint_url: Address of the S3 service; empty for the provider's own.
        access_key_id: Key id.
        secret_access_key: Secret.
        session_token: Third part of credentials that expire; empty for those that do not.
        region: Region name; any value where the store has none.
        connect_timeout_s: Seconds until a connection must stand.
        read_timeout_s: Seconds without a byte after which a request is given up and tried again.
        encryption: How the store is told to encrypt what is written; empty leaves it to the bucket's own default.
        kms_key_id: Key for ``aws:kms``; empty takes the provider's own.
        principal: Who the audit says it is used for; empty = the account of the process.
    """

    endpoint_url: str = ""
    access_key_id: SecretStr = SecretStr("")
    secret_access_key: SecretStr = SecretStr("")
    session_token: SecretStr = SecretStr("")
    region: str = "us-east-1"
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 30.0
    encryption: Encryption = ""
    kms_key_id: str = ""
    principal: str = ""

    @model_validator(mode="after")
    def _a_key_is_of_kms(self) -> Self:
        if self.kms_key_id and self.encryption != "aws:kms":
            raise ConfigError("a KMS key has no effect unless CRRG_S3_SSE is aws:kms; set it", "CRRG_S3_KMS_KEY_ID")
        return self

    def write_arguments(self) -> dict[str, str]:
        """Return what every put, copy and beginning of a multipart upload has to say about encryption."""
        arguments = {"ServerSideEncryption": self.encryption, "SSEKMSKeyId": self.kms_key_id}
        return {name: value for name, value in arguments.items() if value}

    def s3fs_options(self) -> dict[str, Any]:
        """Return keyword arguments for ``s3fs.S3FileSystem``; listings are never cached."""
        client: dict[str, str] = {"region_name": self.region}
        if self.endpoint_url:
            client["endpoint_url"] = self.endpoint_url
        # one try each: crrg.storage tries whole objects again, and two layers of retries would multiply
        config = {
            "connect_timeout": self.connect_timeout_s,
            "read_timeout": self.read_timeout_s,
            "retries": {"mode": "standard", "total_max_attempts": 1},
            # ten if nothing is said: requests of more threads than that would wait for one another
            "max_pool_connections": NUM_CONNECTIONS,
        }
        options: dict[str, Any] = {"client_kwargs": client, "config_kwargs": config, "use_listings_cache": False}
        if written := self.write_arguments():
            options["s3_additional_kwargs"] = written
        if self.access_key_id.get_secret_value():
            options["key"] = self.access_key_id.get_secret_value()
            options["secret"] = self.secret_access_key.get_secret_value()
            if token := self.session_token.get_secret_value():
                options["token"] = token
        return options

    def with_credentials_of(self, other: StorageSettings) -> StorageSettings:
        """Return the same settings with key, secret and token of others."""
        names = ("access_key_id", "secret_access_key", "session_token")
        return self.model_copy(update={name: getattr(other, name) for name in names})

    def with_kms_key(self, key_id: str) -> StorageSettings:
        """Return the same settings with another KMS key, that of the identified zone.

        Raises:
            ConfigError: What is written is not encrypted by KMS.
        """
        if self.encryption != "aws:kms":
            raise ConfigError(
                "a KMS key encrypts nothing unless CRRG_S3_SSE is aws:kms; set it", "CRRG_IDENTIFIED_KMS_KEY_ID"
            )
        return self.model_copy(update={"kms_key_id": key_id})


class Settings(BaseSettings):
    """Settings of this process, in rising order: ``CRRG_*`` variables, the file ``crrg.toml``, flags.

    Attributes:
        root: Where everything lies (``docs/operations.md``), any fsspec URL.
        identified_root: The only place for identified documents; empty = off.
        identified_kms_key_id: Key for ``aws:kms`` of what is written there; empty takes ``s3_kms_key_id``.
        s3_endpoint: Address of an S3-compatible service.
        s3_read_timeout_s: Seconds without a byte after which a request to it is tried again.
        s3_sse: Server-side encryption asked for with every write: ``AES256``, ``aws:kms``, or empty for the bucket's
            default.
        s3_kms_key_id: Key for ``aws:kms``.
        hmac_key: Secret of the pseudonyms, at least 32 bytes.
        hmac_key_file: File that holds the secret instead.
        old_hmac_key: Secret that `crrg rekey` changes from, and by which ingests and nights tell who was
            forgotten under it.
        old_hmac_key_file: File that holds that one instead.
        archives: Addresses that a delivery may send to, as ``send_to`` gives them; separated by commas in the variable,
            a list in the TOML file. None: to this machine alone, or wherever `crrg deliver` itself is told.
        archive_authorization: Value of the header ``Authorization`` for an archive's DICOMweb service, with its scheme.
        archive_ca_file: Certificates, as PEM, by which an archive is known; empty takes those of the machine.
        archive_cert_file: Our own certificate and its key, as PEM, for archives that ask for one.
        mlflow_tracking_uri: Tracking server; empty = SQLite under the root.
        mlflow_public_url: Its address for links that people open; empty takes the one that this process uses.
        prefect_api_url: The orchestrator; empty = none that lasts.
        principal: Who the audit says this process works for; empty = its account.
        webhook_url: Where the orchestrator sends word of failed, cancelled, late and flagged nights; empty = nowhere.
        open_data: Folder of real open data for tests marked ``real``.
        max_file_mib: Largest film file that is read, MiB.
        max_pixels: Most pixels of a film that is decoded.
        max_sequence_depth: Most sequences of DICOM within one another.
        max_elements: Most elements of a DICOM file.
        max_report_characters: Longest report that is read.
        decoder_memory_mib: Address space of a decoding process, MiB.
        decoder_cpu_s: Processor seconds it may take for a file.
        decoder_timeout_s: Seconds it may take for a file in all.
        memory_mib: Memory of its own that a process may take, MiB; what does not fit is done in smaller batches, where
            a container would be ended. 0 sets no limit; without a film the libraries alone take more than 1,100.
    """

    model_config = SettingsConfigDict(env_prefix="CRRG_", toml_file="crrg.toml", extra="ignore", populate_by_name=True)

    root: str = "./crrg-data"
    identified_root: str = ""
    identified_kms_key_id: str = ""
    s3_endpoint: str = ""
    s3_read_timeout_s: float = 30.0
    s3_sse: Encryption = ""
    s3_kms_key_id: str = ""
    hmac_key: SecretStr = SecretStr("")
    hmac_key_file: Path | None = None
    old_hmac_key: SecretStr = SecretStr("")
    old_hmac_key_file: Path | None = None
    archives: Annotated[tuple[str, ...], NoDecode] = ()
    archive_authorization: SecretStr = SecretStr("")
    archive_ca_file: Path | None = None
    archive_cert_file: Path | None = None
    aws_access_key_id: SecretStr = Field(SecretStr(""), validation_alias="AWS_ACCESS_KEY_ID")
    aws_secret_access_key: SecretStr = Field(SecretStr(""), validation_alias="AWS_SECRET_ACCESS_KEY")
    aws_session_token: SecretStr = Field(SecretStr(""), validation_alias="AWS_SESSION_TOKEN")
    aws_region: str = Field("us-east-1", validation_alias="AWS_REGION")
    mlflow_tracking_uri: str = Field("", validation_alias="MLFLOW_TRACKING_URI")
    mlflow_public_url: str = ""
    prefect_api_url: str = Field("", validation_alias="PREFECT_API_URL")
    principal: str = ""
    webhook_url: SecretStr = SecretStr("")
    open_data: Path | None = None
    max_file_mib: int = Field(512, ge=1, le=4096)
    max_pixels: int = Field(100_000_000, ge=2**20, le=1_000_000_000)
    max_sequence_depth: int = Field(32, ge=4, le=128)
    max_elements: int = Field(20_000, ge=1_000, le=10_000_000)
    max_report_characters: int = Field(20_000, ge=1_000, le=250_000)
    decoder_memory_mib: int = Field(2048, ge=512, le=2**16)
    decoder_cpu_s: int = Field(20, ge=1, le=3600)
    decoder_timeout_s: float = Field(60.0, ge=1, le=3600)
    memory_mib: int = Field(0, ge=0, le=2**24)

    def __init__(self, **values: Any) -> None:
        """Read the settings.

        Raises:
            ConfigError: One cannot be used.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            fields, names = type(self).model_fields, self.model_config
            raise setting_fault(error, fields, str(names["env_prefix"]), str(names["toml_file"])) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the parent's signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the parent's signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, flags, TOML file, environment.

        Raises:
            ConfigError: The file is no TOML, or names a setting that there is not.
        """
        name = str(settings_cls.model_config.get("toml_file"))
        try:
            file = TomlConfigSettingsSource(settings_cls)
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot be read as TOML ({error}); correct it or move it away", name) from error
        check_names(file.toml_data, settings_cls.model_fields, name)
        flags = {"root": os.environ[FLAG_ROOT]} if os.environ.get(FLAG_ROOT) else {}
        return init_settings, InitSettingsSource(settings_cls, init_kwargs=flags), file, env_settings

    @field_validator(
        "hmac_key_file", "old_hmac_key_file", "archive_ca_file", "archive_cert_file", "open_data", mode="before"
    )
    @classmethod
    def _is_no_file_if_empty(cls, path: object) -> object:
        return path or None  # an empty path would mean the current folder

    @field_validator("archives", mode="before")
    @classmethod
    def _is_a_list(cls, value: object) -> object:
        return tuple(filter(None, map(str.strip, value.split(",")))) if isinstance(value, str) else value

    @field_validator("s3_endpoint", "mlflow_tracking_uri", "mlflow_public_url")
    @classmethod
    def _holds_no_password(cls, address: str, info: ValidationInfo) -> str:
        if address.startswith(("http://", "https://")) and "@" in address.split("/")[2]:
            variable, *instead = _SECRET_BESIDE[str(info.field_name)]
            raise ConfigError(
                f"the address contains a password, which people would see; set {' and '.join(instead)}", variable
            )
        return address

    @field_validator("s3_endpoint")
    @classmethod
    def _is_an_address(cls, address: str) -> str:
        scheme, _, place = address.partition("://")
        if address and (scheme not in ("http", "https") or not place.strip("/")):
            raise ConfigError("it is no address; write it like http://host:port", "CRRG_S3_ENDPOINT")
        return address

    @field_validator("memory_mib")
    @classmethod
    def _holds_the_libraries(cls, value: int) -> int:
        if 0 < value < LEAST_MEMORY_MIB:
            raise ConfigError(
                f"the libraries alone take most of {value} MiB; give at least {LEAST_MEMORY_MIB}, or 0 for no limit",
                "CRRG_MEMORY_MIB",
            )
        return value

    def model_post_init(self, _: object, /) -> None:
        """Keep the secrets of these settings out of every log line from now on."""
        held = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        keep_out_of_logs([*held, *(os.environ.get(name, "") for name in OTHER_SECRETS)])

    @property
    def storage(self) -> StorageSettings:
        """Settings of the object store, with whom it is used for."""
        return StorageSettings(
            endpoint_url=self.s3_endpoint,
            access_key_id=self.aws_access_key_id,
            secret_access_key=self.aws_secret_access_key,
            session_token=self.aws_session_token,
            region=self.aws_region,
            read_timeout_s=self.s3_read_timeout_s,
            encryption=self.s3_sse,
            kms_key_id=self.s3_kms_key_id,
            principal=self.principal,
        )

    def pseudonym_key(self) -> bytes:
        """Return the secret of the pseudonyms.

        Raises:
            ConfigError: There is none, it is shorter than 32 bytes, or anyone could try it.
        """
        key = read_secret_key(self.hmac_key, self.hmac_key_file, "CRRG_HMAC_KEY")
        check_secret_key(key, "CRRG_HMAC_KEY")
        return key

    @property
    def has_old_pseudonym_key(self) -> bool:
        """Whether the secret that pseudonyms are changed from is given."""
        return bool(self.old_hmac_key_file or self.old_hmac_key.get_secret_value())

    def old_pseudonym_key(self) -> bytes:
        """Return the secret that pseudonyms are changed from, which may be one that has to be left behind.

        Raises:
            ConfigError: There is none, or it is shorter than 32 bytes.
        """
        return read_secret_key(self.old_hmac_key, self.old_hmac_key_file, "CRRG_OLD_HMAC_KEY")


def default_num_workers() -> int:
    """Return how many worker processes suit this process: as many as it may take cores, at most 8."""
    told = os.environ.get(CORES_VARIABLE, "")
    return min(8, (int(told) if told.isdecimal() else 0) or os.cpu_count() or 1)
