./todo add buy milk && ./todo list | grep -q "buy milk"
