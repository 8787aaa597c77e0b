"""What a person or a schedule asks for, one module each; joins the rooms below and knows no orchestrator."""
