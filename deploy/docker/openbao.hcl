# OpenBao beside the controller, for one host.  Not a development server: sealed at start, data on a volume.
ui            = false
api_addr      = "http://127.0.0.1:8200"
cluster_addr  = "https://127.0.0.1:8201"

# Loopback of the two containers that share it: nothing else can reach this port.
listener "tcp" {
  address     = "127.0.0.1:8200"
  tls_disable = true
}

# Who asked for what, and when; values, tokens and secret ids only as HMACs.  It goes to the container's output.  An audit
# device that cannot write stops every answer: one that writes files needs room and a rotation of its own.
audit "file" "output" {
  options {
    file_path = "stdout"
  }
}

storage "raft" {
  path    = "/openbao/file"
  node_id = "one"
  # Nobody to elect but itself: do not wait long for others.
  performance_multiplier = 1
}
