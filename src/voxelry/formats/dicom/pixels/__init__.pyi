from .decoders import Decoder as Decoder
from .transfer_syntaxes import TransferSyntax as TransferSyntax
from .transfer_syntaxes import supported_codings as supported_codings
from .transfer_syntaxes import syntax_name as syntax_name
