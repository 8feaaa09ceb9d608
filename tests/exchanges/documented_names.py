"""
The permissions that each exchange documents, as its page prints them.

Written down apart from the adapters, which are judged by this; where each list stands and when it
was read: `docs/audit/`.  Of Bybit an item with its group, of Deribit a scope that writes.
"""

DOCUMENTED: dict[str, str] = {
    "binance": """enableReading enableWithdrawals enableInternalTransfer enableMargin enableFutures
        permitsUniversalTransfer enableVanillaOptions enableFixApiTrade enableFixReadOnly
        enableSpotAndMarginTrading enablePortfolioMarginTrading""",
    "bitfinex": """account history orders positions funding settings wallets withdraw ui_withdraw
        bfxpay""",
    "bitget": """coor coow cpor cpow stor stow smor smow ttor ttow wtor wtow taxr taxw chor chow
        p2pr p2p pllr pllw wwow
        uta_mgt uta_trade withdraw copy_futures_position copy_futures_order""",
    "bybit": """ContractTrade.Order ContractTrade.Position Spot.SpotTrade Wallet.AccountTransfer
        Wallet.SubMemberTransfer Wallet.SubMemberTransferList Wallet.Withdraw Options.OptionsTrade
        Derivatives.DerivativesTrade Exchange.ExchangeHistory Earn.Earn FiatP2P.FiatP2POrder
        FiatP2P.Advertising FiatBitPay.FaitPayOrder FiatConvertBroker.FiatConvertBrokerOrder
        BlockTrade.BlockTrade Affiliate.Affiliate BitCard.BitCard ByXPost.ByXPost""",
    "coinbase": "can_view can_trade can_transfer",
    "deribit": """account:read_write trade:read_write wallet:read_write custody:read_write
        block_trade:read_write block_rfq:read_write""",
    "gateio": """wallet spot futures delivery earn custody options account loan margin unified copy
        pilot otc alpha crossx""",
    "htx": "readOnly trade withdraw",
    "kraken": """query-funds add-funds withdraw-funds earn-funds query-open-trades
        query-closed-trades modify-trades close-trades query-ledger export-data create-ws-token
        add-withdraw-address update-withdraw-address future-transfer-funds""",
    "krakenfutures": "general transfer",
    "kucoin": """General Spot Margin Futures Earn Withdrawal FlexTransfers LeadtradeFutures
        InnerTransfer Transfer Unified Trade""",
    "okx": "read_only trade withdraw",
}
